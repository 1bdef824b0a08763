/* SPDX-License-Identifier: MIT
 *
 * crc32c.c - CRC-32C: polynomial 0x1edc6f41, bits reflected, inverted before and after.
 *
 * One register of a processor's instruction takes three cycles an 8-byte word but starts one every
 * cycle, so all but short inputs run in three lanes, and a lane's CRC is moved over the bytes
 * behind it: by a carry-less product where there is one, else by a table. Without the instruction:
 * eight tables, eight bytes at a time.
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
#ifdef KV_TEST
uint32_t (*kv_test_crc32c_plain)(uint32_t crc, const void *data, size_t n);
#endif

/* ---- with one ---- */

#if defined(__x86_64__)
#include <nmmintrin.h>
#include <wmmintrin.h>
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

/* ---- with a carry-less product as well ---- */

#if defined(__x86_64__)
#define PRODUCT __attribute__((target("sse4.2,pclmul")))
#define APART   __attribute__((noinline)) /* so that the usual length saves no registers */
#ifdef __clang__
#define UNROLL /* it does, where it knows how often */
#else
#define UNROLL _Pragma("GCC unroll 16")
#endif

/* Bits are reflected: bit i of a CRC is x^(31-i), bit i of a word x^(63-i). The instruction gives
 *     take8(r, w) = r x^64 + w x^32   mod P.
 * In the product of CRCs r and k, bits of x^(31-i) and x^(31-j) meet in bit i+j, which is
 * x^(63-i-j) in a word, one power too many: taken for a word, it is r k x. Hence
 *     take8(0, r k) = r k x^33        mod P,
 * and with k = x^(64d - 33) that is r moved over d words. For d = 1, k is x^31, the number 1, and
 * take8(k, 0) leads from one d to the next. As take8 is linear, the products of all lanes are added
 * to the last word of the input, whose turn reduces them at no cost. */
#define TAIL  6u           /* words the last lane goes on for while the others are multiplied */
#define FEW   (TAIL + 2)   /* words below which lanes are no gain */
#define SHORT (TAIL + 25)  /* words below which each number has code of its own */
#define LONG  (TAIL + 192) /* words at a time otherwise, at most */

static uint32_t over[LONG + 1]; /* over[d] = x^(64d - 33) mod P; d > 0 */

PRODUCT static inline __m128i product(uint64_t r, uint32_t k)
{
    return _mm_clmulepi64_si128(_mm_cvtsi64_si128((long long)r), _mm_cvtsi32_si128((int)k), 0);
}

/* The last lane over the last TAIL words, and what became of the others. */
PRODUCT static inline uint64_t join(uint64_t c, const unsigned char *end, __m128i a, __m128i b)
{
    uint64_t sum = (uint64_t)_mm_cvtsi128_si64(_mm_xor_si128(a, b));
    c = take8(c, word_at(end - 48));
    c = take8(c, word_at(end - 40));
    c = take8(c, word_at(end - 32));
    c = take8(c, word_at(end - 24));
    c = take8(c, word_at(end - 16));
    return take8(c, word_at(end - 8) ^ sum);
}

/* From CRC a over the n words at p, n being a constant: every address is known as soon as p is, and
 * no word waits for what says how many there are. */
PRODUCT __attribute__((always_inline)) static inline uint64_t
lanes_of(uint64_t a, const unsigned char *p, const size_t n)
{
    const size_t len = (n - TAIL + 2) / 3;
    uint64_t b = 0, c = 0;
    /* Else what all lengths load comes before the jump, and needs registers. */
    __asm__("" : "+r"(p));
    UNROLL
    for (size_t i = 0; i < len; i++) {
        a = take8(a, word_at(p + 8 * i));
        b = take8(b, word_at(p + 8 * (len + i)));
    }
    UNROLL
    for (size_t i = 2 * len; i < n - TAIL; i++)
        c = take8(c, word_at(p + 8 * i));
    return join(c, p + 8 * n, product(a, over[n - len]), product(b, over[n - 2 * len]));
}

/* The same for FEW <= n < SHORT: one jump to the code for as many as there are. */
PRODUCT static inline uint64_t short_lanes(uint64_t a, const unsigned char *p, size_t n)
{
#define WORDS(n)                                                                                   \
    case n:                                                                                        \
        return lanes_of(a, p, n);
    switch (n) {
        WORDS(8)
        WORDS(9)
        WORDS(10)
        WORDS(11)
        WORDS(12)
        WORDS(13)
        WORDS(14)
        WORDS(15)
        WORDS(16)
        WORDS(17)
        WORDS(18)
        WORDS(19)
        WORDS(20)
        WORDS(21)
        WORDS(22)
        WORDS(23)
        WORDS(24)
        WORDS(25)
        WORDS(26)
        WORDS(27)
        WORDS(28)
        WORDS(29)
        WORDS(30)
    default:
        __builtin_unreachable();
    }
#undef WORDS
}

/* The same in a loop, TAIL <= n <= LONG. */
PRODUCT static uint64_t long_lanes(uint64_t a, const unsigned char *end, size_t n)
{
    size_t len = (n - TAIL) / 3;
    const unsigned char *pa = end - 8 * n, *pb = pa + 8 * len, *pc = pb + 8 * len, *a_end = pb;
    uint64_t b = 0, c = 0;
    for (; pa < a_end; pa += 8, pb += 8, pc += 8) {
        a = take8(a, word_at(pa));
        b = take8(b, word_at(pb));
        c = take8(c, word_at(pc));
    }
    for (; pc < end - 8 * TAIL; pc += 8)
        c = take8(c, word_at(pc));
    return join(c, end, product(a, over[n - len]), product(b, over[n - 2 * len]));
}

/* Fewer than eight bytes, as a word. */
static inline uint64_t bytes_at(const unsigned char *p, size_t n)
{
    uint32_t low = 0, high = 0;
    uint16_t two;
    if (n & 4) {
        memcpy(&low, p, 4);
        memcpy(&high, p + n - 4, 4);
        return low | (uint64_t)high << 8 * (n - 4);
    }
    if (n & 2) {
        memcpy(&two, p, 2);
        low = two;
    }
    if (n & 1)
        low |= (uint32_t)p[n - 1] << 8 * (n - 1);
    return low;
}

/* The bytes that make no word, n % 8, come first: zero bytes before an input do not matter to a CRC
 * of 0. So the CRC so far is added to the input, the odd bytes go to the high end of a word, and
 * what is left of the CRC behind them is added to the next word, by being added to its CRC. */
PRODUCT static inline uint64_t odd_bytes(uint64_t a, uint64_t first, size_t n)
{
    return take8(0, (a ^ first) << 1 << (~(8 * n) & 63)) ^ a >> (8 * n & 63);
}

PRODUCT APART static uint32_t few_words(uint32_t crc, const unsigned char *p, size_t n)
{
    const unsigned char *end;
    uint64_t a = (uint32_t)~crc;
    if (n == 0)
        return crc;
    if (n % 8 != 0)
        a = odd_bytes(a, n < 8 ? bytes_at(p, n) : word_at(p), n);
    for (end = p + n, p += n % 8; p < end; p += 8)
        a = take8(a, word_at(p));
    return (uint32_t)~a;
}

PRODUCT APART static uint32_t many_words(uint32_t crc, const unsigned char *p, size_t n)
{
    const unsigned char *end = p + n;
    uint64_t a = odd_bytes((uint32_t)~crc, word_at(p), n);
    size_t words = n / 8;
    while (words >= FEW) {
        size_t now = words < LONG ? words : LONG;
        words -= now;
        a = long_lanes(a, end - 8 * words, now);
    }
    for (; words > 0; words--)
        a = take8(a, word_at(end - 8 * words));
    return (uint32_t)~a;
}

/* The bytes that make no word come last here, where it is known by then how many they are. */
PRODUCT static uint32_t with_product(uint32_t crc, const void *data, size_t n)
{
    const unsigned char *p = data;
    size_t words = n / 8;
    uint64_t a;
    if (words - FEW >= SHORT - FEW)
        return words < FEW ? few_words(crc, p, n) : many_words(crc, p, n);
    a = short_lanes((uint32_t)~crc, p, words);
    if (n % 8 != 0)
        a = odd_bytes(a, word_at(p + n - 8) >> (64 - 8 * (n % 8)), n);
    return (uint32_t)~a;
}

PRODUCT static int product_init(void)
{
    if (!__builtin_cpu_supports("pclmul"))
        return 0;
    over[1] = 1;
    for (size_t d = 2; d <= LONG; d++)
        over[d] = (uint32_t)take8(over[d - 1], 0);
    return 1;
}
#endif

__attribute__((constructor)) static void choose(void)
{
    if (has_instruction()) {
        shift_init();
        kv_crc32c = with_instruction;
#ifdef KV_TEST
        kv_test_crc32c_plain = with_instruction;
#endif
#if defined(__x86_64__)
        if (product_init())
            kv_crc32c = with_product;
#endif
    }
}

#endif
