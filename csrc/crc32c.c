/* SPDX-License-Identifier: MIT
 *
 * crc32c.c - CRC-32C: polynomial 0x1edc6f41, bits reflected, inverted before and after.
 *
 * One register of a processor's instruction takes three cycles an 8-byte word but starts one every
 * cycle, so long inputs run in three lanes, and a table moves a lane's CRC over the bytes behind
 * it. Without the instruction: eight tables, eight bytes at a time.
 */
#define _GNU_SOURCE
#include "crc32c.h"

#include <pthread.h>
#include <string.h>

#define POLY 0x82f63b78u /* the polynomial, bit-reversed */

static inline uint64_t word_at(const unsigned char *p)
{
    uint64_t w;
    memcpy(&w, p, sizeof w);
    return w;
}

/* ---- without an instruction ---- */

/* table[k][b]: what byte b, followed by k zero bytes, does to a CRC of 0. */
static uint32_t table[8][256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_init(void)
{
    for (uint32_t b = 0; b < 256; b++) {
        uint32_t c = b;
        for (int i = 0; i < 8; i++)
            c = (c >> 1) ^ ((c & 1) ? POLY : 0);
        table[0][b] = c;
    }
    for (int k = 1; k < 8; k++)
        for (int b = 0; b < 256; b++)
            table[k][b] = (table[k - 1][b] >> 8) ^ table[0][table[k - 1][b] & 255];
}

uint32_t kv_crc32c_portable(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint32_t c = ~crc;
    pthread_once(&table_once, table_init);
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t w = word_at(p) ^ c;
        c = table[7][w & 255] ^ table[6][w >> 8 & 255] ^ table[5][w >> 16 & 255] ^
            table[4][w >> 24 & 255] ^ table[3][w >> 32 & 255] ^ table[2][w >> 40 & 255] ^
            table[1][w >> 48 & 255] ^ table[0][w >> 56];
    }
    for (; n > 0; n--, p++)
        c = (c >> 8) ^ table[0][(c ^ *p) & 255];
    return ~c;
}

/* Portable until the constructor below has looked at the processor, so that it can be called at any
 * time. A constructor, not a first call, chooses: no thread can see the pointer change. */
uint32_t (*kv_crc32c)(uint32_t crc, const void *data, size_t n) = kv_crc32c_portable;

/* ---- with one ---- */

#if defined(__x86_64__)
#include <nmmintrin.h>
#define HARDWARE __attribute__((target("sse4.2")))

static int has_instruction(void)
{
    __builtin_cpu_init();
    return __builtin_cpu_supports("sse4.2");
}
HARDWARE static inline uint64_t take8(uint64_t c, uint64_t w)
{
    return _mm_crc32_u64(c, w);
}
HARDWARE static inline uint64_t take1(uint64_t c, unsigned char b)
{
    return _mm_crc32_u8((uint32_t)c, b);
}

#elif defined(__aarch64__)
#include <sys/auxv.h>
#define HARDWARE
#define HAS_CRC32 (1ul << 7) /* bit of AT_HWCAP; its header is not in every libc */

static int has_instruction(void)
{
    return (getauxval(AT_HWCAP) & HAS_CRC32) != 0;
}
/* As text for the assembler: compilers disagree on how a function asks for the extension. */
static inline uint64_t take8(uint64_t c, uint64_t w)
{
    uint32_t out;
    __asm__(".arch_extension crc\n\tcrc32cx %w0, %w1, %x2" : "=r"(out) : "r"((uint32_t)c), "r"(w));
    return out;
}
static inline uint64_t take1(uint64_t c, unsigned char b)
{
    uint32_t out;
    __asm__(".arch_extension crc\n\tcrc32cb %w0, %w1, %w2"
            : "=r"(out)
            : "r"((uint32_t)c), "r"((uint32_t)b));
    return out;
}
#endif

#ifdef HARDWARE

/* Bytes of a lane: short enough that most of a large value runs in lanes, long enough that moving
 * the lanes' CRCs (eight table reads) does not show. */
#define LANE 512u

/* shift[k][b]: byte k of a CRC being b, after LANE zero bytes. Linear in the bits of b. */
static uint32_t shift[4][256];

static inline uint64_t over_lane(uint64_t c)
{
    return shift[0][c & 255] ^ shift[1][c >> 8 & 255] ^ shift[2][c >> 16 & 255] ^
           shift[3][c >> 24 & 255];
}

HARDWARE static uint32_t with_instruction(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    uint64_t a = (uint32_t)~crc;
    while (n >= 3 * LANE) {
        uint64_t b = 0, c = 0;
        for (size_t i = 0; i < LANE; i += 8) {
            a = take8(a, word_at(p + i));
            b = take8(b, word_at(p + LANE + i));
            c = take8(c, word_at(p + 2 * LANE + i));
        }
        a = over_lane(over_lane(a) ^ b) ^ c;
        p += 3 * LANE;
        n -= 3 * LANE;
    }
    for (; n >= 8; n -= 8, p += 8)
        a = take8(a, word_at(p));
    for (; n > 0; n--, p++)
        a = take1(a, *p);
    return (uint32_t)~a;
}

HARDWARE static void shift_init(void)
{
    for (int bit = 0; bit < 32; bit++) {
        uint64_t c = UINT64_C(1) << bit;
        uint32_t *row = shift[bit / 8];
        uint32_t high = 1u << (bit % 8);
        for (size_t i = 0; i < LANE; i += 8)
            c = take8(c, 0);
        for (uint32_t b = 0; b < high; b++)
            row[high + b] = row[b] ^ (uint32_t)c;
    }
}

__attribute__((constructor)) static void choose(void)
{
    if (has_instruction()) {
        shift_init();
        kv_crc32c = with_instruction;
    }
}

#endif
