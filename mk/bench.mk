# Measurements. BENCH names the questions (all of them by default), see bench/README.md.

BENCH  ?= all
KEYS   ?= 1000000
ROUNDS ?= 3

build/bench/rivals: bench/rivals.c
	@mkdir -p $(@D)
	$(CC) -std=c99 -O2 -g $(WARN) -o $@ $< -llmdb -lsqlite3

build/bench/clock.so: bench/clock.c
	@mkdir -p $(@D)
	$(CC) -std=c99 -O2 -g $(WARN) -fPIC -shared -isystem $(call incdir,lua5.4) -o $@ $<

bench: deps-bench
	@$(MAKE) --no-print-directory -s -j$(JOBS) build/lua5.4/kv/core.so build/bench/rivals build/bench/clock.so
	@LUA_PATH="./lua/?.lua;./lua/?/init.lua;./bench/?.lua;;" \
	  LUA_CPATH="./build/lua5.4/?.so;./build/bench/?.so;;" \
	  KEYS=$(KEYS) ROUNDS=$(ROUNDS) lua5.4 bench/run.lua $(BENCH)

.PHONY: bench
