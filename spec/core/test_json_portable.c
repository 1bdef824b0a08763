/* SPDX-License-Identifier: MIT
 *
 * test_json_portable.c - test_json_edit.c once more, on the scanner without the processor's help.
 */
#define _GNU_SOURCE
#define KV_JSON_PORTABLE
#include "../../csrc/json.c"
#include "../../csrc/json_path.c"
#include "../../csrc/json_text.c"

#define MODEL_EDITS 100000
#include "test_json_edit.c"
