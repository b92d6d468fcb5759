/*
 * What a compiler makes instructions of: arithmetic of every width, 128 bits too, switches, strings,
 * structures, bits, atomic operations, calls through pointers.
 *
 * Each function folds its answers into one number. A processor prints them (-DNATIVE); as a guest the
 * same source leaves them in `answers`.
 */
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
typedef unsigned __int128 u128;
typedef signed char s8;
typedef short s16;
typedef int s32;
typedef long s64;
typedef __int128 s128;

#define NOINLINE __attribute__((noinline))
#define ROUNDS 24

static u64 state;

static NOINLINE u64 next(void)
{
	u64 x = state;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	state = x;
	switch (x >> 61) { /* small and extreme values are more telling */
	case 0: return x & 7;
	case 1: return 1ul << (x & 63);
	case 2: return -(x & 15);
	default: return x;
	}
}

static NOINLINE u128 next128(void)
{
	u64 high = next();

	return (u128)high << 64 | next();
}

static NOINLINE u64 fold(u64 sum, u64 value)
{
	return (sum ^ value) * 0x9E3779B97F4A7C15ul + 0x7F4A7C15;
}

#define ARITHMETIC(bits)                                                                        \
	static NOINLINE u64 arithmetic##bits(void)                                              \
	{                                                                                       \
		u64 sum = 0;                                                                    \
		for (int i = 0; i < ROUNDS; i++) {                                              \
			u##bits a = next(), b = next(), n = next() % bits;                      \
			s##bits c = a, d = b;                                                   \
			sum = fold(sum, (u##bits)(a + b) ^ (u##bits)(a - b * 3));               \
			sum = fold(sum, (u##bits)(a * b) + (u##bits)(a * 10));                  \
			sum = fold(sum, (a & b) | (a ^ ~b));                                    \
			sum = fold(sum, (u64)(a / (b | 1)) + a % (b | 1));                      \
			if (d != 0 && d != -1)                                                  \
				sum = fold(sum, (u64)(s64)(c / d) + (u64)(s64)(c % d));         \
			sum = fold(sum, a / 10 + a % 7 + (u64)(c / 100));                       \
			sum = fold(sum, (u##bits)(a << n) + (a >> n) + (u64)(c >> n));          \
			sum = fold(sum, (u##bits)(a << n | a >> (-n & (bits - 1))));            \
			sum = fold(sum, (u##bits)(a >> n | a << (-n & (bits - 1))));            \
			sum = fold(sum, (a < b) + 2 * (c < d) + 4 * (a == b) + 8 * (c <= d));   \
			sum = fold(sum, c < 0 ? -(u64)c : a > b ? a : b);                       \
			sum = fold(sum, __builtin_mul_overflow(c, d, &c));                      \
			sum = fold(sum, c);                                                     \
			sum = fold(sum, __builtin_add_overflow(a, b, &a));                      \
			sum = fold(sum, a);                                                     \
			sum = fold(sum, __builtin_sub_overflow(d, (s##bits)n, &d));             \
			sum = fold(sum, d);                                                     \
		}                                                                               \
		return sum;                                                                     \
	}
ARITHMETIC(8)
ARITHMETIC(16)
ARITHMETIC(32)
ARITHMETIC(64)

static NOINLINE u64 arithmetic128(void)
{
	u64 sum = 0;

	for (int i = 0; i < ROUNDS; i++) {
		u128 a = next128(), b = next128();
		s128 c = (s128)(s64)next() * (s64)next();
		u32 n = next() & 127;
		u128 results[] = { a + b, a - b, a * b, a << n, a >> n, (u128)((s128)a >> n), a & ~b, -a,
				   (u128)c, (u128)(u64)a * (u64)b, a < b ? a : b, (s128)a < (s128)b ? b : a };

		for (u32 k = 0; k < sizeof(results) / sizeof(*results); k++)
			sum = fold(fold(sum, (u64)results[k]), (u64)(results[k] >> 64));
	}
	return sum;
}

static NOINLINE u64 extensions(void)
{
	u64 sum = 0;

	for (int i = 0; i < ROUNDS; i++) {
		volatile u64 x = next();
		u64 a = x;

		sum = fold(sum, (u64)(s8)a + (u64)(s16)a + (u64)(s32)a + (u8)a + (u16)a + (u32)a);
		sum = fold(sum, (u16)(s8)a + (u32)(s16)a + (u16)(u8)(a >> 8) + (u8)(a >> 8));
		sum = fold(sum, *(volatile s8 *)&x + *(volatile s16 *)&x + *(volatile s32 *)&x);
	}
	return sum;
}

static NOINLINE u64 switched(u64 what, u64 a)
{
	switch (what) {
	case 0: return a + 1;
	case 1: return a * 5;
	case 2: return a >> 3;
	case 3: return ~a;
	case 4: return a - 77;
	case 5: return a ^ 0xFF00;
	case 6: return a * a;
	case 7: return -a;
	case 9: return a & 0xF0F0;
	case 11: return a | 1;
	case 300: return 3;
	default: return 0;
	}
}

static NOINLINE u64 plus(u64 a, u64 b) { return a + b; }
static NOINLINE u64 minus(u64 a, u64 b) { return a - b; }
static NOINLINE u64 times(u64 a, u64 b) { return a * b; }
static u64 (*const operations[])(u64, u64) = { plus, minus, times };

static NOINLINE u64 branches(void)
{
	u64 sum = 0;

	for (u64 i = 0; i < 14 * 3; i++) {
		u64 a = next();

		sum = fold(sum, switched(i % 14, a));
		sum = fold(sum, operations[i % 3](a, sum));
	}
	return fold(sum, switched(300, 0));
}

static u8 text[300], copy[300];

static NOINLINE u64 length(const char *s)
{
	const char *end = s;

	while (*end)
		end++;
	return end - s;
}

static NOINLINE u64 strings(void)
{
	u64 sum = 0;

	for (int i = 0; i < ROUNDS; i++) {
		u64 size = next() % sizeof(text);

		__builtin_memset(copy, 0xA5, sizeof(copy));
		for (u64 k = 0; k < sizeof(text); k++)
			text[k] = next() | 1;
		text[size] = 0;
		sum = fold(sum, length((char *)text) + __builtin_strlen((char *)text));
		for (u64 k = size; k-- > 0;)
			copy[k] = text[size - k];
		for (u64 k = 0; k < sizeof(copy); k++)
			sum = fold(sum, copy[k]);
		sum = fold(sum, __builtin_memcmp(text, copy, 8) < 0);
	}
	return sum;
}

struct record {
	u8 a;
	u16 b;
	u32 c : 5, d : 20, e : 7;
	u64 f[9];
	s8 g[5];
};

static NOINLINE struct record made(u64 x)
{
	struct record r = { .a = x, .b = x >> 3, .c = x, .d = x >> 7, .e = x >> 9 };

	for (int i = 0; i < 9; i++)
		r.f[i] = x * i;
	r.g[x % 5] = x;
	return r;
}

static NOINLINE u64 read_record(struct record r)
{
	u64 sum = r.a + r.b + r.c + r.d + r.e;

	for (int i = 0; i < 9; i++)
		sum = fold(sum, r.f[i]);
	return fold(sum, r.g[0] + r.g[1] + r.g[2] + r.g[3] + r.g[4]);
}

static NOINLINE u64 structures(void)
{
	struct record several[3] = { { 0 } };
	u64 sum = 0;

	for (int i = 0; i < ROUNDS; i++) {
		several[i % 3] = made(next());
		several[(i + 1) % 3].d = several[i % 3].e + several[i % 3].c;
		sum = fold(sum, read_record(several[(i + 2) % 3]));
	}
	return sum;
}

static NOINLINE u64 bits(void)
{
	u64 sum = 0, map[4] = { 0 };

	for (int i = 0; i < ROUNDS; i++) {
		u64 a = next() | 1ul << 62;
		u32 b = next() | 0x100, n = next() & 255;

		sum = fold(sum, __builtin_ctzl(a) + __builtin_clzl(a) * 3 + __builtin_ffsl(a));
		sum = fold(sum, __builtin_ctz(b) + __builtin_clz(b) * 5 + __builtin_ffs(b & ~0x100u));
		sum = fold(sum, __builtin_bswap64(a) + __builtin_bswap32(b) + __builtin_bswap16(b));
		sum = fold(sum, (a >> (n & 63) & 1) + (b & 1u << (n & 31) ? 3 : 4));
		map[n / 64] ^= 1ul << n % 64;
		map[n / 64 ^ 1] |= 1ul << n % 64;
		map[n / 64 ^ 2] &= ~(1ul << n % 64);
		sum = fold(sum, map[0] + map[1] * 3 + map[2] * 5 + map[3] * 7 + __builtin_parityl(a));
	}
	return sum;
}

#define ATOMICS(bits)                                                                           \
	static u##bits shared##bits;                                                            \
	static NOINLINE u64 atomics##bits(void)                                                 \
	{                                                                                       \
		u##bits *p = &shared##bits;                                                     \
		u64 sum = 0;                                                                    \
		for (int i = 0; i < ROUNDS; i++) {                                              \
			u##bits a = next(), expected = next() & 1 ? *p : a;                     \
			sum = fold(sum, __atomic_fetch_add(p, a, __ATOMIC_SEQ_CST));            \
			sum = fold(sum, __atomic_sub_fetch(p, 3, __ATOMIC_ACQ_REL));            \
			sum = fold(sum, __atomic_fetch_or(p, a, __ATOMIC_SEQ_CST));             \
			sum = fold(sum, __atomic_and_fetch(p, ~a | 5, __ATOMIC_SEQ_CST));       \
			sum = fold(sum, __atomic_fetch_xor(p, a, __ATOMIC_RELAXED));            \
			sum = fold(sum, __atomic_exchange_n(p, a ^ 9, __ATOMIC_ACQUIRE));       \
			sum = fold(sum, __atomic_compare_exchange_n(p, &expected, a, 0,         \
								    __ATOMIC_SEQ_CST,           \
								    __ATOMIC_RELAXED));         \
			sum = fold(sum, expected);                                              \
			__atomic_add_fetch(p, 1, __ATOMIC_SEQ_CST);                             \
			__atomic_thread_fence(__ATOMIC_SEQ_CST);                                \
			__atomic_store_n(p, __atomic_load_n(p, __ATOMIC_SEQ_CST) + 1,           \
					 __ATOMIC_SEQ_CST);                                     \
		}                                                                               \
		return sum;                                                                     \
	}
ATOMICS(8)
ATOMICS(16)
ATOMICS(32)
ATOMICS(64)

static u128 shared128;

static NOINLINE u64 atomics128(void)
{
	u64 sum = 0;

	for (int i = 0; i < ROUNDS; i++) {
		u128 new = next128();
		u128 old = i & 1 ? shared128 : new;

		sum = fold(sum, __sync_bool_compare_and_swap(&shared128, old, new));
		old = __sync_val_compare_and_swap(&shared128, new, new + 1);
		sum = fold(fold(sum, (u64)old), (u64)(old >> 64));
	}
	return sum;
}

static NOINLINE u64 recursive(u64 n) { return n < 2 ? n : recursive(n - 1) + recursive(n - 2); }

static NOINLINE u64 many(u64 a, u32 b, u16 c, u8 d, s64 e, s32 f, s16 g, s8 h, u64 i, u8 j)
{
	return a + b * 3ul + c * 5u + d * 7u + e * 11 + f * 13l + g * 17 + h * 19 + i * 23 + j * 29u;
}

static NOINLINE u64 calls(void)
{
	u64 sum = recursive(12);

	for (int i = 0; i < ROUNDS; i++) {
		u64 x = next();
		volatile u8 room[64 + (x & 31)];

		room[x & 63] = x;
		sum = fold(sum, many(x, x, x, x, x, x, x, x, x, x) + room[x & 63]);
	}
	return sum;
}

typedef u64 (*function)(void);
static const function functions[] = {
	arithmetic8, arithmetic16, arithmetic32, arithmetic64, arithmetic128, extensions, branches, strings, structures,
	bits, atomics8, atomics16, atomics32, atomics64, atomics128, calls,
};
#define FUNCTIONS (sizeof(functions) / sizeof(*functions))

u64 answers[FUNCTIONS];

void guest_main(void)
{
	state = 88172645463325252ul;
	for (u64 i = 0; i < FUNCTIONS; i++)
		answers[i] = functions[i]();
}

/* What compilers call for what they do not write out. */
#ifndef NATIVE
void *memcpy(void *to, const void *from, u64 size)
{
	void *start = to;

	__asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(size) : : "memory");
	return start;
}

void *memset(void *to, int value, u64 size)
{
	void *start = to;

	__asm__ volatile("rep stosb" : "+D"(to), "+c"(size) : "a"(value) : "memory");
	return start;
}

int memcmp(const void *a, const void *b, u64 size)
{
	const u8 *x = a, *y = b;

	while (size-- > 0) {
		__asm__ volatile("" : "+r"(x));
		if (*x++ != *y++)
			return x[-1] - y[-1];
	}
	return 0;
}

u64 strlen(const char *s)
{
	const char *end = s;

	while (*end) {
		__asm__ volatile("" : "+r"(end));
		end++;
	}
	return end - s;
}

int __popcountdi2(u64 x)
{
	int ones = 0;

	for (; x != 0; x &= x - 1)
		ones++;
	return ones;
}

int __paritydi2(u64 x) { return __popcountdi2(x) & 1; }
#else
int printf(const char *, ...);

int main(void)
{
	guest_main();
	for (u64 i = 0; i < FUNCTIONS; i++)
		printf("%lx\n", answers[i]);
	return 0;
}
#endif
