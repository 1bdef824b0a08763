build/test/luajit/lua_kv.o: csrc/lua_kv.c csrc/lua_kv.h csrc/compat.h \
 csrc/json.h csrc/kv.h csrc/lua_json.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_json.h:
