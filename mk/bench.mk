# Measurements. BENCH names the questions (all of them by default), see bench/README.md.

BENCH  ?= all
KEYS   ?= 1000000
ROUNDS ?= 3

build/bench/%.so: bench/%.c bench/hist.h
	@mkdir -p $(@D)
	$(CC) -std=c99 -O2 -g $(WARN) -fPIC -shared -isystem $(call incdir,lua5.4) -o $@ $< $(rival_libs)

build/bench/luajit/%.so: bench/%.c bench/hist.h
	@mkdir -p $(@D)
	$(CC) -std=c99 -O2 -g $(WARN) -fPIC -shared -isystem $(call incdir,luajit) -o $@ $<

build/bench/slow_sync.so: rival_libs = -ldl
build/bench/rivals.so: rival_libs = -llmdb -lsqlite3

bench: deps-bench
	@$(MAKE) --no-print-directory -s -j$(JOBS) build/lua5.4/kv/core.so build/bench/rivals.so build/bench/clock.so build/bench/slow_sync.so
	@LUA_PATH="./lua/?.lua;./lua/?/init.lua;./bench/?.lua;;" \
	  LUA_CPATH="./build/lua5.4/?.so;./build/bench/?.so;;" \
	  KEYS=$(KEYS) ROUNDS=$(ROUNDS) lua5.4 bench/run.lua $(BENCH)

# In the workers of a real nginx, beside its dictionaries.
bench-openresty: deps-hosts
	@$(MAKE) --no-print-directory -s -j$(JOBS) build/luajit/kv/core.so build/bench/clock.so build/bench/luajit/clock.so
	@KEYS=$(KEYS) ROUNDS=$(ROUNDS) sh bench/openresty/run.sh

.PHONY: bench bench-openresty
