build/test/core/write.o: csrc/write.c csrc/write.h csrc/store.h \
 csrc/blob.h csrc/kv.h csrc/os.h csrc/hash.h csrc/region.h csrc/log.h \
 csrc/record.h csrc/crc32c.h csrc/meta.h csrc/order.h csrc/wheel.h \
 csrc/json.h
csrc/write.h:
csrc/store.h:
csrc/blob.h:
csrc/kv.h:
csrc/os.h:
csrc/hash.h:
csrc/region.h:
csrc/log.h:
csrc/record.h:
csrc/crc32c.h:
csrc/meta.h:
csrc/order.h:
csrc/wheel.h:
csrc/json.h:
