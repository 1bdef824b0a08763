build/test/luajit/lua_export.o: csrc/lua_export.c csrc/lua_kv.h \
 csrc/compat.h csrc/json.h csrc/kv.h csrc/lua_record.h
csrc/lua_kv.h:
csrc/compat.h:
csrc/json.h:
csrc/kv.h:
csrc/lua_record.h:
