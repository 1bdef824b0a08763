build/test/luajit/lua_json.o: csrc/lua_json.c csrc/lua_json.h \
 csrc/compat.h csrc/json.h csrc/lua_kv.h csrc/kv.h
csrc/lua_json.h:
csrc/compat.h:
csrc/json.h:
csrc/lua_kv.h:
csrc/kv.h:
