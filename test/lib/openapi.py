#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The OpenAPI document, checked for form and held against the server that serves it.

  openapi.py form FILE                     is it an OpenAPI 3.1 document?
  openapi.py server FILE HOST PORT CA REF OP   does HOST do what it says?  $WARREN_TOKEN; REF and OP
                                           stand for {id} and {op}

Nothing is changed by the second: each request has a field that there is not, or one that is wrong.
"""

import http.client
import json
import os
import re
import ssl
import sys
import urllib.parse

METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"]
bad = []


def wrong(what):
    bad.append(what)
    print("wrong:", what)


# ---- form: what the specification demands of the parts that are used ----


def resolve(doc, ref):
    at = doc
    if not ref.startswith("#/"):
        return None
    for part in ref[2:].split("/"):
        at = at.get(part) if isinstance(at, dict) else None
    return at


def walk_refs(doc, at, where):
    if isinstance(at, dict):
        if "$ref" in at and resolve(doc, at["$ref"]) is None:
            wrong(f"{where}: {at['$ref']} leads nowhere")
        for key, value in at.items():
            walk_refs(doc, value, f"{where}/{key}")
    elif isinstance(at, list):
        for i, value in enumerate(at):
            walk_refs(doc, value, f"{where}/{i}")


def check_schema(s, where):
    if not isinstance(s, dict):
        return wrong(f"{where}: is no schema")
    if "type" in s and s["type"] not in ("string", "integer", "boolean", "object", "array", "number"):
        wrong(f"{where}: type {s['type']}")
    if s.get("type") == "array" and "items" not in s:
        wrong(f"{where}: an array of what?")
    if "enum" in s and (not s["enum"] or len(set(s["enum"])) != len(s["enum"])):
        wrong(f"{where}: enum is empty or repeats itself")
    if "pattern" in s:
        re.compile(s["pattern"])
    for name, p in s.get("properties", {}).items():
        check_schema(p, f"{where}/{name}")
    for name in s.get("required", []):
        if name not in s.get("properties", {}):
            wrong(f"{where}: requires '{name}', which it does not have")
    for one in s.get("oneOf", []):
        check_schema(one, where)


def check_operation(doc, path, method, op, ids):
    where = f"{method} {path}"
    for key in ("operationId", "summary", "responses", "security"):
        if key not in op:
            wrong(f"{where}: no {key}")
    if op["operationId"] in ids:
        wrong(f"{where}: operationId {op['operationId']} again")
    ids.add(op["operationId"])
    for need in op["security"]:
        for name, scopes in need.items():
            if name not in doc["components"]["securitySchemes"] or len(scopes) != 1:
                wrong(f"{where}: security {need}")
    seen = set()
    for p in op.get("parameters", []):
        if (p["name"], p["in"]) in seen:
            wrong(f"{where}: parameter {p['name']} again")
        seen.add((p["name"], p["in"]))
        if p["in"] not in ("path", "query") or (p["in"] == "path" and p.get("required") is not True):
            wrong(f"{where}: parameter {p['name']} in {p['in']}")
        check_schema(p["schema"], f"{where} {p['name']}")
    if {n for n, i in seen if i == "path"} != set(re.findall(r"{(\w+)}", path)):
        wrong(f"{where}: its parameters are not those of the path")
    if "requestBody" in op:
        if method == "get":
            wrong(f"{where}: a body")
        check_schema(op["requestBody"]["content"]["application/json"]["schema"], where)
    if "default" not in op["responses"]:
        wrong(f"{where}: no response for errors")
    for code, r in op["responses"].items():
        if not re.fullmatch(r"default|[1-5]\d\d", code) or "description" not in r:
            wrong(f"{where}: response {code}")


def form(doc):
    if not re.fullmatch(r"3\.1\.\d+", doc.get("openapi", "")):
        wrong("openapi: the version")
    for key in ("title", "version"):
        if not doc.get("info", {}).get(key):
            wrong(f"info: no {key}")
    if set(doc) - {"openapi", "info", "servers", "paths", "components", "security", "tags"}:
        wrong("members that there are not")
    ids = set()
    for path, item in doc["paths"].items():
        if not path.startswith("/") or set(item) - set(METHODS):
            wrong(path)
        for method, op in item.items():
            check_operation(doc, path, method, op, ids)
    for name, s in doc["components"]["schemas"].items():
        check_schema(s, name)
    walk_refs(doc, doc, "")
    print(len(ids), "operations")


# ---- the server ----


class Server:
    def __init__(self, host, port, ca):
        self.at = (host, int(port))
        self.tls = ssl.create_default_context(cafile=ca)
        self.conn = None

    def ask(self, method, target, body=None):
        headers = {"Authorization": "Bearer " + os.environ["WARREN_TOKEN"]}
        if body is not None:
            headers["Content-Type"] = "application/json"
            body = json.dumps(body)
        for again in (False, True):
            try:
                if not self.conn:
                    self.conn = http.client.HTTPSConnection(*self.at, context=self.tls, timeout=60)
                self.conn.request(method, target, body, headers)
                r = self.conn.getresponse()
                return r.status, r.headers, r.read()
            except (http.client.HTTPException, ConnectionError, ssl.SSLError):
                # a connection that was kept may be gone
                self.conn = None
                if again:
                    raise


def message(data):
    try:
        return json.loads(data)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return ""


def wrong_value(schema):
    """Something that this schema does not take; None: it takes any text."""
    kind = schema.get("type")
    if "enum" in schema or "oneOf" in schema or schema.get("format") == "uuid":
        return "no such thing"
    if kind in ("integer", "boolean"):
        return "maybe"
    if kind == "string" and "maxLength" in schema:
        return "a" * (schema["maxLength"] + 1)
    return None


def wrong_type(schema):
    if schema.get("type") in ("string", "array", "object"):
        return True
    if schema.get("type") == "boolean":
        return 7
    return [1]


def server(doc, host, port, ca, ref, op_id):
    s = Server(host, port, ca)
    asked = 0
    for path, item in doc["paths"].items():
        target = path.replace("{id}", ref).replace("{op}", op_id)
        for method in METHODS:
            if method in item or method == "trace":
                continue
            status, headers, _ = s.ask(method.upper(), target)
            asked += 1
            allow = {m.strip().lower() for m in headers.get("Allow", "").split(",")}
            if status != 405 or allow != set(item):
                wrong(f"{method} {path}: {status}, allowed are {allow}")
        for method, op in item.items():
            where = f"{method} {path}"
            query = method == "get"
            # It is there: a field that there is not is what is wrong with it.
            status, _, data = s.ask(method.upper(), target + ("?x_x=1" if query else ""), None if query else {"x_x": 1})
            asked += 1
            if status != 400 or not message(data).startswith("x_x:"):
                wrong(f"{where}: {status} {data[:200]}")
            fields = {p["name"]: p["schema"] for p in op.get("parameters", []) if p["in"] == "query"}
            if not query:
                schema = op["requestBody"]["content"]["application/json"]["schema"]
                fields = schema["properties"]
                for name in schema.get("required", []):
                    status, _, data = s.ask(method.upper(), target, {})
                    asked += 1
                    if status != 400 or "is missing" not in message(data):
                        wrong(f"{where} without {name}: {status} {data[:200]}")
            for name, schema in fields.items():
                tries = [wrong_value(schema)] if query else [wrong_value(schema), wrong_type(schema)]
                for value in tries:
                    if value is None:
                        continue
                    if query:
                        status, _, data = s.ask("GET", f"{target}?{name}={urllib.parse.quote(value)}")
                    else:
                        status, _, data = s.ask(method.upper(), target, {name: value})
                    asked += 1
                    if status != 400 or not message(data).startswith(name):
                        wrong(f"{where} {name}={str(value)[:40]}: {status} {data[:200]}")
    for target in ("/v1/nothing", "/v2/projects", "/", "/v1/projects/"):
        if s.ask("GET", target)[0] != 404:
            wrong(f"{target} is not 404")
    status, headers, data = s.ask("GET", "/v1/openapi.json")
    if status != 200 or json.loads(data) != doc or headers["Content-Type"] != "application/json":
        wrong("the server has another document")
    print(asked, "requests")


with open(sys.argv[2], "rb") as f:
    document = json.load(f)
if sys.argv[1] == "form":
    form(document)
else:
    server(document, *sys.argv[3:])
sys.exit(1 if bad else 0)
