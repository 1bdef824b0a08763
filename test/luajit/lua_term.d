build/test/luajit/lua_term.o: csrc/lua_term.c csrc/lua_kv.h csrc/compat.h \
 csrc/json.h csrc/kv.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
