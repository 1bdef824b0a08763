# kv: build, test, measure, install.
#
#   make          the module for every Lua in LUAS       make run    a guided tour on real data, or EXAMPLE=flow
#   make test     everything that must hold, < 10 min     make check  lint, test, sanitizers, valgrind
#   make bench    against a Lua table, LMDB and SQLite    make help   every target and variable
#
# Every build lives in a directory of its own under build/ (see mk/flavour.mk), so that none
# disturbs another:   .       what users get, build/<lua>/kv/core.so
#                     test    with the test hooks (-DKV_TEST); asan, tsan, fuzz the same, sanitized
#                     bug<n>  with error number n built in on purpose (-DKV_BUG=n)

LUAS        ?= lua5.1 lua5.3 lua5.4 luajit
LUA         ?= lua5.4
LUA_VERSION ?= 5.4
PREFIX      ?= /usr/local
JOBS        ?= 2
EXAMPLE     ?= tour

CC       ?= cc
CLANG    ?= clang
CFLAGS   ?= -O2 -g
# Added to, never replaced by, what a user puts into CFLAGS.
STD      := -std=c99 -fPIC -pthread -Icsrc
WARN     := -Wall -Wextra
LDLIBS   ?= -pthread -lm

# `make LUA=... ` on the command line means: that one Lua, and no other.
ifeq ($(origin LUA),command line)
LUAS := $(notdir $(LUA))
endif

CORE_SRC  := $(filter-out csrc/lua_%.c,$(wildcard csrc/*.c))
BIND_SRC  := $(wildcard csrc/lua_*.c)
CORE      := $(CORE_SRC:csrc/%.c=%)
BIND      := $(BIND_SRC:csrc/%.c=%)
TESTS     := $(patsubst spec/core/%.c,%,$(wildcard spec/core/test_*.c))
THREADED  := $(filter test_thread%,$(TESTS))
FUZZERS   := $(patsubst spec/core/%.c,%,$(wildcard spec/core/fuzz_*.c))
UTILS     := $(patsubst spec/core/%.c,%,$(wildcard spec/core/util*.c))

all: $(foreach lua,$(LUAS),build/$(lua)/kv/core.so)

include mk/flavour.mk
include mk/test.mk
include mk/bench.mk

run: | deps-run
	@$(MAKE) --no-print-directory -s build/$(notdir $(LUA))/kv/core.so
	@LUA_PATH="./lua/?.lua;./lua/?/init.lua;$$LUA_PATH;;" \
	  LUA_CPATH="./build/$(notdir $(LUA))/?.so;$$LUA_CPATH;;" $(LUA) examples/$(EXAMPLE)/main.lua

# The version is said once, in kv.h.
VERSION := $(shell sed -n 's/^.define KV_VERSION *"\(.*\)"/\1/p' csrc/kv.h)
to      := $(DESTDIR)$(PREFIX)

install: build/lua$(LUA_VERSION)/kv/core.so build/lua$(LUA_VERSION)/libkv.a
	install -d $(to)/lib/lua/$(LUA_VERSION)/kv $(to)/lib/pkgconfig $(to)/include
	install -m 755 $< $(to)/lib/lua/$(LUA_VERSION)/kv/core.so
	cd lua && find . -name '*.lua' -exec install -D -m 644 {} \
	  $(abspath $(DESTDIR)$(PREFIX))/share/lua/$(LUA_VERSION)/{} \;
	install -m 644 csrc/kv.h $(to)/include/kv.h
	install -m 644 build/lua$(LUA_VERSION)/libkv.a $(to)/lib/libkv.a
	sed -e 's|@PREFIX@|$(PREFIX)|' -e 's|@VERSION@|$(VERSION)|' mk/kv.pc.in >$(to)/lib/pkgconfig/kv.pc
	install -d $(to)/bin $(to)/share/man/man1 $(dir $(completions:%=$(to)/share/%))
	sed '1s|lua[0-9.]*$$|lua$(LUA_VERSION)|' bin/kv >$(to)/bin/kv && chmod 755 $(to)/bin/kv
	install -m 644 docs/kv.1 $(to)/share/man/man1/kv.1
	$(foreach file,$(completions),lua$(LUA_VERSION) -e \
	  'io.write(dofile("lua/kv/cli/scripts.lua")["$(firstword $(subst /, ,$(subst -, ,$(file))))"])' \
	  >$(to)/share/$(file) &&) true

# Where the shells look, below share/; each path begins with the name of its shell.
completions := bash-completion/completions/kv zsh/site-functions/_kv fish/vendor_completions.d/kv.fish

# The rockspec of the release is the other one with a version and a tag; `make lint` compares.
rockspec:
	@sed -e 's|"scm-1"|"$(VERSION)-1"|' -e 's|^\( *\)url = .*|&\n\1tag = "v$(VERSION)",|' \
	  rockspec/kv-scm-1.rockspec >rockspec/kv-$(VERSION)-1.rockspec

clean:
	rm -rf build

# One group of packages at a time: what `make run` needs is much less than what `make check` needs.
deps: deps-all
deps-%:
	@sh mk/deps.sh $*

help:
	@echo "all         build/<lua>/kv/core.so for LUAS=\"$(LUAS)\""
	@echo "run         the tour: a store with 13,000 real records (LUA=$(LUA)); EXAMPLE=flow: a flow runner"
	@echo "test        C tests under ASan and UBSan, then the specs on every Lua; last line: N passed, N failed"
	@echo "check       lint, test, asan, tsan, valgrind, fuzz"
	@echo "asan        the specs on an ASan build        tsan      C tests of threads under TSan"
	@echo "valgrind    C tests without a sanitizer       fuzz      each fuzz target for FUZZ_SECONDS=$(FUZZ_SECONDS)"
	@echo "torture     the same tests with KV_LONG=1      bug       C tests of a build broken on purpose, BUG=n"
	@echo "bench       BENCH=\"$(BENCH)\" KEYS=$(KEYS) ROUNDS=$(ROUNDS)"
	@echo "bench-openresty  in the workers of nginx, against ngx.shared.DICT; KEYS, ROUNDS"
	@echo "lint        luacheck, clang-format, gcc and clang warnings, layers, exports, rockspec"
	@echo "test-hosts  the examples in their real hosts, and the rock; HOSTS=\"$(HOSTS)\""
	@echo "deps        install what is missing (Debian)  install   PREFIX=$(PREFIX) DESTDIR=$(DESTDIR) LUA_VERSION=$(LUA_VERSION)"
	@echo "variables   CC CLANG CFLAGS LUAS LUA LUA_INCDIR JOBS"

.PHONY: all run install rockspec clean deps help
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:
.SECONDARY:
