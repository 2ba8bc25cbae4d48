/* SPDX-License-Identifier: Apache-2.0 */
/* Functions of the C library that no file of Warren may call; each has a bounded or thread-safe
 * replacement.  Using one is a compile error that names this list. */
#ifndef WR_BANNED_H
#define WR_BANNED_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WR_BANNED(func) sorry_##func##_is_a_banned_function

#undef strcpy
#define strcpy(a, b) WR_BANNED(strcpy)
#undef strcat
#define strcat(a, b) WR_BANNED(strcat)
#undef strncpy
#define strncpy(a, b, c) WR_BANNED(strncpy)
#undef strncat
#define strncat(a, b, c) WR_BANNED(strncat)
#undef sprintf
#define sprintf(...) WR_BANNED(sprintf)
#undef vsprintf
#define vsprintf(...) WR_BANNED(vsprintf)
#undef strtok
#define strtok(a, b) WR_BANNED(strtok)
#undef gets
#define gets(a) WR_BANNED(gets)
#undef atoi
#define atoi(a) WR_BANNED(atoi)
#undef atol
#define atol(a) WR_BANNED(atol)
#undef gmtime
#define gmtime(a) WR_BANNED(gmtime)
#undef localtime
#define localtime(a) WR_BANNED(localtime)
#undef ctime
#define ctime(a) WR_BANNED(ctime)
#undef asctime
#define asctime(a) WR_BANNED(asctime)
#undef mktemp
#define mktemp(a) WR_BANNED(mktemp)
#undef tmpnam
#define tmpnam(a) WR_BANNED(tmpnam)
#undef system
#define system(a) WR_BANNED(system)

#endif
