build/test/luajit/lua_import.o: csrc/lua_import.c csrc/lua_kv.h \
 csrc/compat.h csrc/json.h csrc/kv.h csrc/lua_record.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_record.h:
