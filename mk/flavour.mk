# How one flavour of the code is built.
#
#   $(eval $(call flavour,DIR,COMPILER,FLAGS)) gives, below DIR:
#     core/*.o          the core, compiled once for all Luas
#     <lua>/*.o         the binding, compiled for each Lua
#     <lua>/kv/core.so  the module
#     <lua>/libkv.a     the core and the binding, for a program that links them in; one that wants
#                       the core alone gets nothing of Lua
#     spec/*.o, bin/*   the C programs of spec/core, each linked with util*.c and the core

incdir = $(if $(LUA_INCDIR),$(LUA_INCDIR),$(if $(filter luajit,$(1)),/usr/include/luajit-2.1,/usr/include/$(1)))

define flavour
$(1)/core/%.o: csrc/%.c
	@mkdir -p $$(@D)
	$(2) $$(STD) $$(WARN) $(3) -MMD -MP -c -o $$@ $$<

$(1)/spec/%.o: spec/core/%.c
	@mkdir -p $$(@D)
	$(2) $$(STD) $$(WARN) -Ispec/core $(3) -MMD -MP -c -o $$@ $$<

# An archive, so that a test of one module takes only what that module needs.
$(1)/core.a: $$(CORE:%=$(1)/core/%.o)
	@rm -f $$@
	$(AR) rcs $$@ $$^

$(1)/bin/%: $(1)/spec/%.o $$(UTILS:%=$(1)/spec/%.o) $(1)/core.a
	@mkdir -p $$(@D)
	$(2) $(3) -o $$@ $$^ $$(LDLIBS)

$(foreach lua,$(LUAS) $(filter-out $(LUAS),lua$(LUA_VERSION)),$(call flavour_lua,$(1),$(2),$(3),$(lua)))
-include $$(wildcard $(1)/core/*.d $(1)/spec/*.d $(1)/*/lua_*.d)
endef

define flavour_lua
$(1)/$(4)/%.o: csrc/%.c
	@mkdir -p $$(@D)
	$(2) $$(STD) $$(WARN) $(3) -isystem $$(call incdir,$(4)) -MMD -MP -c -o $$@ $$<

$(1)/$(4)/kv/core.so: $$(BIND:%=$(1)/$(4)/%.o) $$(CORE:%=$(1)/core/%.o)
	@mkdir -p $$(@D)
	$(2) $(3) -shared -o $$@ $$^ $$(LDLIBS)

$(1)/$(4)/libkv.a: $$(BIND:%=$(1)/$(4)/%.o) $$(CORE:%=$(1)/core/%.o)
	@rm -f $$@
	$(AR) rcs $$@ $$^

endef

SAN := -O1 -g -DKV_TEST -fno-omit-frame-pointer -fno-sanitize-recover=undefined
BUG ?= 1

$(eval $(call flavour,build,$$(CC),$$(CFLAGS)))
$(eval $(call flavour,build/test,$$(CC),-O2 -g -DKV_TEST))
$(eval $(call flavour,build/asan,$$(CC),$$(SAN) -fsanitize=address$$(comma)undefined))
$(eval $(call flavour,build/tsan,$$(CC),$$(SAN) -Wno-tsan -fsanitize=thread))
$(eval $(call flavour,build/fuzz,$$(CLANG),$$(SAN) -fsanitize=fuzzer-no-link$$(comma)address$$(comma)undefined))
$(eval $(call flavour,build/cov,$$(CC),-O0 -g -DKV_TEST -Dalways_inline=unused --coverage -Wl$$(comma)-u$$(comma)__gcov_dump))
$(eval $(call flavour,build/bug$(BUG),$$(CC),-O1 -g -DKV_TEST -DKV_BUG=$(BUG)))

comma := ,

build/fuzz/bin/fuzz_%: build/fuzz/spec/fuzz_%.o $(UTILS:%=build/fuzz/spec/%.o) build/fuzz/core.a
	@mkdir -p $(@D)
	$(CLANG) $(SAN) -fsanitize=fuzzer,address,undefined -o $@ $^ $(LDLIBS)
