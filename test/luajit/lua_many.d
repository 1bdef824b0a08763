build/test/luajit/lua_many.o: csrc/lua_many.c csrc/lua_kv.h csrc/compat.h \
 csrc/json.h csrc/kv.h csrc/lua_json.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_json.h:
