/* SPDX-License-Identifier: MIT
 *
 * crc32c.h - CRC-32C (Castagnoli), with the processor's instruction where it has one, chosen at run
 * time.
 */
#ifndef KV_CRC32C_H
#define KV_CRC32C_H

#include <stdint.h>
#include <stddef.h>

#pragma GCC visibility push(hidden)
/* Continues from `crc` (0 at first; any value serves as a seed). kv_crc32c(0, "123456789", 9) ==
 * 0xe3069283. */
extern uint32_t (*kv_crc32c)(uint32_t crc, const void *data, size_t n);
uint32_t kv_crc32c_portable(uint32_t crc, const void *data, size_t n);
#ifdef KV_TEST
/* What a processor with the instruction and nothing else uses; NULL: this one has not even that. */
extern uint32_t (*kv_test_crc32c_plain)(uint32_t crc, const void *data, size_t n);
#endif
#pragma GCC visibility pop
#endif
