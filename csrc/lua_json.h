/* SPDX-License-Identifier: MIT */
/*
 * lua_json.h - Lua values to JSON text and back, exactly.
 *
 * Values are read raw (no metamethod runs) and nothing allocated outside Lua lives across a call
 * that may throw, so every function here may be left by longjmp at any point without a leak.
 */
#ifndef KV_LUA_JSON_H
#define KV_LUA_JSON_H

#include "compat.h"
#include "json.h"

#if defined(__GNUC__)
#pragma GCC visibility push(hidden)
#endif

/* Once per Lua state, from luaopen: makes the tag of arrays.  Calling it again is harmless. */
void kv_lua_json_setup(lua_State *L);

/*
 * Encode the value at idx as compact JSON.  Pushes one value, the owner of the text, and returns
 * the text (no NUL behind it), which stays valid while the owner is on the stack.  Raises on what
 * JSON cannot carry; the message begins with the place, at the root called `where`:
 * "value.items[3]: NaN cannot be stored".  Indexes in it are Lua's, from 1.
 *
 * The owner is a scratch buffer.  kv_lua_encode_done gives the one at idx back for the next call,
 * after which the text is gone; the slot itself is left for the caller to pop.  Leaving that out
 * (because an error was raised, say) costs only an allocation next time.
 */
const char *kv_lua_encode(lua_State *L, int idx, const char *where, size_t *len);
void kv_lua_encode_done(lua_State *L, int idx);

/*
 * Push the value of a JSON text and return KV_JSON_OK; or push nothing, set *err and return its
 * code.  Arrays carry the tag, null is the NULL light userdata.  The text must stay where it is
 * meanwhile: it belongs to the caller, on the Lua stack or outside Lua.
 */
int kv_lua_decode(lua_State *L, const char *text, size_t len, kv_json_error *err);

/* Push the content of the string or key that the scan has just handed out. */
void kv_lua_push_token(lua_State *L, const kv_json_scan *scan);

/* Push a message for a failed decode ("unexpected character at byte 7", counted from 1 as Lua
 * does) and return the code of the contract for it, "not_json" or "too_deep". */
const char *kv_lua_json_failure(lua_State *L, const kv_json_error *err);

/* Tag the table on top of the stack as an array, whatever is in it. */
void kv_lua_tag_array(lua_State *L);

/* The Lua functions kv.array([t]), kv.encode(value) and kv.decode(text). */
int kv_lua_array(lua_State *L);
int kv_lua_json_encode(lua_State *L);
int kv_lua_json_decode(lua_State *L);

#if defined(__GNUC__)
#pragma GCC visibility pop
#endif

#endif
