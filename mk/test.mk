# Tests, sanitizers, fuzzing and lint.
#
# In spec/core: test_*.c run in `make test`, test_thread*.c also under TSan, fuzz_*.c are libFuzzer
# targets, util*.c is linked into all of them.

FUZZ_SECONDS ?= 60
asan_env := ASAN_OPTIONS=detect_leaks=1:abort_on_error=1:detect_stack_use_after_return=1 \
            UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1

# The longest first: the specs on plain Lua take more time than any C program.
TEST_JOBS := $(LUAS:%=specs-%) bugs $(TESTS)
HOSTS     ?= $(filter-out lib,$(patsubst spec/hosts/%.sh,%,$(wildcard spec/hosts/*.sh)))

test: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) test-build
	@$(asan_env) JOBS=$(JOBS) sh spec/run.sh $(TEST_JOBS)

test-build: all $(foreach lua,$(LUAS),build/test/$(lua)/kv/core.so) $(TESTS:%=build/asan/bin/%)

# Each host of examples/ for real, and the rock; HOSTS="embed love" for some.
test-hosts: deps-hosts
	@$(MAKE) --no-print-directory -s -j$(JOBS) all build/luajit/libkv.a build/lua5.4/libkv.a \
	  build/bench/slow_sync.so
	@JOBS=$(JOBS) sh spec/run.sh $(HOSTS:%=host-%)

check: deps-all
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory test
	@$(MAKE) --no-print-directory asan
	@$(MAKE) --no-print-directory tsan
	@$(MAKE) --no-print-directory valgrind
	@$(MAKE) --no-print-directory fuzz FUZZ_SECONDS=10
	@echo "check: everything holds"

# The specs once more, on a module built with ASan and UBSan. Lua itself is not, so the runtime
# comes in by LD_PRELOAD, and leaks of the interpreter's own are not counted.
asan: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) build/asan/lua5.4/kv/core.so
	ASAN_OPTIONS=detect_leaks=0:abort_on_error=1 UBSAN_OPTIONS=print_stacktrace=1:halt_on_error=1 \
	  KV_FLAVOUR=asan KV_PRELOAD="$$($(CC) -print-file-name=libasan.so)" LUAS=lua5.4 sh spec/run.sh

# A long history, since what is suppressed is told by both stacks.
tsan: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(THREADED:%=build/tsan/bin/%)
	@for t in $(THREADED); do \
	  echo "tsan $$t"; TSAN_OPTIONS=halt_on_error=1:history_size=7 build/tsan/bin/$$t || exit 1; done

# Valgrind is some thirty times slower: KV_SHORT asks the tests for a small dose. It knows nothing of
# what another process wrote to shared memory, or another mapping of it; its long double is a double,
# and malloc is its own. So the tests of several processes or mappings, of exact numbers and of refused
# memory are left out.
VALGRIND_TESTS := $(filter-out test_crash% test_many test_pause test_linear test_turns test_share% test_locks \
  test_remount test_open_faults test_os_refused test_powercut test_json% test_lua_record,$(TESTS))
VALGRIND_SPECS := $(wildcard spec/incr_spec.lua spec/values_spec.lua)

valgrind: deps-all
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(VALGRIND_TESTS:%=build/test/bin/%) \
	  build/test/lua5.4/kv/core.so
	@for t in $(VALGRIND_TESTS); do echo "valgrind $$t"; KV_SHORT=1 KV_VALGRIND=1 valgrind -q --error-exitcode=9 \
	  --leak-check=full --errors-for-leak-kinds=definite build/test/bin/$$t || exit 1; done
	@for s in $(VALGRIND_SPECS); do \
	  echo "valgrind $$s"; KV_SHORT=1 KV_FLAVOUR=test KV_PREFIX="valgrind -q --error-exitcode=9" \
	  LUAS=lua5.4 KV_SPECS=$$s sh spec/run.sh || exit 1; done

fuzz: deps-all
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(FUZZERS:%=build/fuzz/bin/%)
	@for f in $(FUZZERS); do mkdir -p build/fuzz/corpus/$$f; echo "fuzz $$f"; \
	  build/fuzz/bin/$$f -max_total_time=$(FUZZ_SECONDS) -print_final_stats=1 -verbosity=0 \
	  -artifact_prefix=build/fuzz/ build/fuzz/corpus/$$f \
	  $$(test -d spec/core/corpus/$$f && echo spec/core/corpus/$$f) || exit 1; done

torture: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) all $(TESTS:%=build/asan/bin/%)
	KV_LONG=1 JOBS=$(JOBS) $(asan_env) sh spec/run.sh $(TEST_JOBS)

# The C programs and a module with error number BUG built in: build/bug<n>/bin/*, and
# build/bug<n>/lua5.4/kv/core.so. The tests of the tests (spec/core/bugs.sh) use it.
bug: $(TESTS:%=build/bug$(BUG)/bin/%)
bug-module: build/bug$(BUG)/lua5.4/kv/core.so

# Branches of the core that the C tests take; the faults of opening all of them. Whatever none takes
# has its reason in spec/core/uncovered.txt. With a seed, so that chance takes the same ones again.
coverage: deps-test
	@$(MAKE) --no-print-directory -s -j$(JOBS) $(TESTS:%=build/cov/bin/%)
	@find build/cov -name '*.gcda' -delete
	@printf '%s\n' $(TESTS) | SEED=1 xargs -P $(JOBS) -I{} sh -c 'build/cov/bin/{} >/dev/null || exit 255'
	@KV_LONG=1 SEED=1 build/cov/bin/test_open_faults >/dev/null
	@rm -rf build/cov/gcov && mkdir -p build/cov/gcov && ln -s ../../../csrc build/cov/gcov/csrc
	@cd build/cov/gcov && gcov -b -c -o ../core $(CORE:%=../core/%.gcda) >/dev/null 2>&1
	@$(LUA) spec/core/coverage.lua build/cov/gcov

lint: deps-lint
	@$(MAKE) --no-print-directory -s -j$(JOBS) all
	@CC="$(CC)" CLANG="$(CLANG)" LUAS="$(LUAS)" sh spec/lint/lint.sh

.PHONY: test test-build test-hosts check asan tsan valgrind fuzz torture bug bug-module coverage lint
