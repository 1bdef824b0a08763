build/test/luajit/lua_store.o: csrc/lua_store.c csrc/lua_kv.h \
 csrc/compat.h csrc/json.h csrc/kv.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
