build/test/luajit/lua_jit.o: csrc/lua_jit.c csrc/lua_kv.h csrc/compat.h \
 csrc/json.h csrc/kv.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
