build/test/luajit/lua_list.o: csrc/lua_list.c csrc/lua_kv.h csrc/compat.h \
 csrc/json.h csrc/kv.h csrc/lua_json.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_json.h:
