build/test/luajit/lua_stream.o: csrc/lua_stream.c csrc/lua_kv.h \
 csrc/compat.h csrc/json.h csrc/kv.h csrc/lua_json.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_json.h:
