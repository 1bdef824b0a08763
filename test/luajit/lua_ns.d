build/test/luajit/lua_ns.o: csrc/lua_ns.c csrc/lua_kv.h csrc/compat.h \
 csrc/json.h csrc/kv.h csrc/lua_json.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_json.h:
