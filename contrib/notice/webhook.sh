#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# For warren.conf:  [notice] command = /usr/local/lib/warren/webhook.sh
#
# Hands each notice on to a web server as it is.
exec curl -sS --max-time 20 -H 'Content-Type: application/json' --data-binary @- "${WARREN_WEBHOOK:-http://localhost:9000/warren}"
