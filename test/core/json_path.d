build/test/core/json_path.o: csrc/json_path.c csrc/json_edit.h \
 csrc/json.h csrc/json_part.h
csrc/json_edit.h:
csrc/json.h:
csrc/json_part.h:
