build/test/core/maint.o: csrc/maint.c csrc/store.h csrc/blob.h csrc/kv.h \
 csrc/os.h csrc/hash.h csrc/region.h csrc/log.h csrc/record.h \
 csrc/crc32c.h csrc/meta.h csrc/order.h csrc/wheel.h
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
