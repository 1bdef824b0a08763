build/test/luajit/lua_record.o: csrc/lua_record.c csrc/lua_record.h \
 csrc/json.h csrc/kv.h
csrc/lua_record.h:
csrc/json.h:
csrc/kv.h:
