build/test/luajit/lua_args.o: csrc/lua_args.c csrc/lua_kv.h csrc/compat.h \
 csrc/json.h csrc/kv.h csrc/lua_json.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_json.h:
