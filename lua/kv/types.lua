---@meta kv
-- SPDX-License-Identifier: MIT
--
-- What the C module kv.core provides, for editors (LuaLS). Never loaded by a program.
--
-- Failures everywhere: `nil, message, code` when a call failed at run time, `false, message, code`
-- when its condition did not hold. A caller's mistake raises.

-- luacheck: ignore 211 212 221 241 631

---@alias kv.Value string|number|boolean|table|lightuserdata

---What put reads a value from in pieces: a function that returns strings and then nil (or nil and a
---message), or an object with read(self, bytes), such as a file handle.
---@alias kv.Reader (fun(): string?, string?)|table|userdata

---@alias kv.Code
---| "too_big" # key, value, metadata or batch over its limit
---| "full" # no space on the disk, or max_size reached
---| "corrupt" # damaged bytes
---| "io" # the system failed a call
---| "busy" # another process has the store, or its lock
---| "denied" # no permission
---| "readonly" # store or handle takes no writes
---| "unsupported" # not a store, a newer format, a refused file system
---| "not_found" # no such key, store or namespace
---| "exists" # set_if = "not_exist", and it exists
---| "conflict" # if_rev did not hold
---| "not_a_number" # incr of something else
---| "not_a_string" # json_append to something else
---| "not_a_boolean" # json_toggle of something else
---| "not_an_array" # an index into something else
---| "not_an_object" # a name in something else
---| "not_json" # text that is no JSON
---| "too_deep" # JSON nested deeper than 128 levels
---| "bad_path" # a JSON path that is none
---| "out_of_range" # overflow, min, max, a moment of the past, an index beyond the end
---| "bad_cursor" # forged, or of another listing

---@alias kv.As
---| "text" # bytes: a string as it is, anything else spelled as JSON
---| "binary" # the same
---| "json" # a string is decoded, anything else as it was put
---| "stream" # a kv.ReadStream, to read it in pieces

---@class kv.OpenOptions
---@field create? boolean make the store and missing parents (true)
---@field sync? "interval"|"always"|"none" when writes become durable ("interval")
---@field interval? number seconds between syncs (1)
---@field thread? boolean run the helper thread (true); false: only tick and sync do its work
---@field readonly? boolean (false)
---@field max_size? integer bytes of keys, values and metadata; belongs to the store
---@field max_value? integer bytes of a value (25 MiB), to 1 GiB; belongs to the store
---@field mode? string permissions of new files ("0600")
---@field timeout? number seconds to wait for a stopped writer (5)
---@field unsafe_fs? boolean open on network file systems too (false)
---@field salvage? boolean open a damaged store with what is whole (false)

---@class kv.InstanceOptions: kv.OpenOptions
---@field auto_create? boolean make the instance if it is missing (false)
---@field create? nil

---@class kv.WriteOptions
---@field ttl? number seconds, 0 < ttl <= 1e9; wins over expiration and keep_ttl
---@field expiration? number Unix seconds; wins over keep_ttl
---@field keep_ttl? boolean
---@field metadata? table at most 1,024 bytes as JSON
---@field set_if? "exist"|"not_exist"
---@field if_rev? integer 0: must not exist
---@field as? "json" the value is JSON text, stored as a document byte for byte

---Where in a document: text (`items[0].name`, or `/items/0/name`), or an array of steps; nil or ""
---is all of it. Indexes count from 0, and -1 is the last.
---@alias kv.Path string|(string|integer)[]

---@class kv.FieldOptions: kv.WriteOptions
---@field as? nil
---@field set_if? "exist"|"not_exist" the field
---@field if_rev? integer the record
---@field create? boolean make what is missing (true)

---@class kv.IfRev
---@field if_rev? integer

---@class kv.IncrOptions
---@field init? number|false value of a missing key before adding (0); false: it must exist
---@field ttl? number seconds, when the key is created
---@field min? number
---@field max? number

---@class kv.Range
---@field prefix? string
---@field start? string start <= key
---@field stop? string key < stop
---@field reverse? boolean
---@field limit? integer
---@field cursor? string of a page of list with the same options

---@class kv.ListOptions: kv.Range
---@field values? boolean

---@class kv.ListEntry
---@field name string
---@field expiration? number
---@field metadata? table
---@field value? any

---@class kv.Page
---@field keys kv.ListEntry[]
---@field list_complete boolean
---@field cursor? string

---@class kv.Entry
---@field value any
---@field metadata? table
---@field rev integer
---@field created_at number
---@field updated_at number
---@field expiration? number
---@field id string never changes while the key lives
---@field namespace string
---@field key string
---@field instance? string id of the instance; else the store's path, not on a bound handle
---@field cache_status? nil

---@class kv.Item: kv.WriteOptions
---@field key string
---@field value kv.Value

---@class kv.NamespaceInfo
---@field name string
---@field description string
---@field keys integer
---@field bytes integer
---@field created_at number

---@class kv.Stats
---@field rev integer last revision
---@field synced_rev integer one known to be durable; -1: unknown
---@field namespaces integer
---@field keys integer
---@field data_bytes integer of keys, values and metadata
---@field live_bytes integer of the log: what is live
---@field used_bytes integer of the log: that, and what is not cleaned up yet
---@field log_bytes integer of the log's files
---@field blob_bytes integer of the files of large values
---@field index_bytes integer
---@field segments integer
---@field spares integer
---@field segment_size integer
---@field timers integer entries in the timing wheel
---@field buckets integer of lookups
---@field overflow integer buckets behind full ones
---@field nodes integer of the order
---@field reads_retried integer since open, as the next three
---@field expired integer
---@field cleaned integer
---@field syncs integer
---@field replayed integer records read at open
---@field cut_bytes integer torn end cut off at open
---@field max_size integer bytes; 0: no limit
---@field max_value integer bytes
---@field clock_back number seconds of the largest backward step accepted
---@field report string how the store was found at open, or ""

-- Streams ----------------------------------------------------------------------------------------

---A value to be read in pieces, as it was when get was called. As a function it returns the next
---piece, whatever it is called with: an LTN12 source.
---@class kv.ReadStream
---@overload fun(...): string?, string?, kv.Code?
local reader = {}

---@param n? integer bytes (65536)
---@return string? piece nil at the end
---@return string? message
---@return kv.Code? code
function reader:read(n) end

---Lines without their newline. Raises on failure.
---@return fun(): string?
function reader:lines() end

---@return true
function reader:close() end

---A value being written in pieces. As a function it is an LTN12 sink, which commits at the end.
---@class kv.WriteStream
---@overload fun(chunk?: string, err?: any): any, string?, kv.Code?
local writer = {}

---@param ... string
---@return kv.WriteStream? self
---@return string? message
---@return kv.Code? code
function writer:write(...) end

---The value appears, as one write.
---@return integer|false|nil rev
---@return string? message
---@return kv.Code? code
function writer:commit() end

---Drops what was not committed.
---@return true
function writer:close() end

-- A namespace ------------------------------------------------------------------------------------

---Called with a colon.
---@class kv.Namespace
local ns = {}

---@param key string
---@param value kv.Value|kv.Reader
---@param opts? kv.WriteOptions
---@return integer|false|nil rev
---@return string? message
---@return kv.Code? code
function ns:put(key, value, opts) end

ns.set = ns.put

---@param key string
---@param opts? kv.WriteOptions
---@return kv.WriteStream?
---@return string? message
---@return kv.Code? code
function ns:writer(key, opts) end

---@param key string
---@param as? kv.As
---@return any value nil: no such key
---@return string? message
---@return kv.Code? code
---@overload fun(self: kv.Namespace, key: string, as: "stream"): kv.ReadStream?, string?, kv.Code?
---@overload fun(self: kv.Namespace, key: string, as: "text"|"binary"): string?, string?, kv.Code?
function ns:get(key, as) end

---@param key string
---@param as? kv.As
---@return kv.Entry?
---@return string? message
---@return kv.Code? code
function ns:get_with_metadata(key, as) end

ns.entry = ns.get_with_metadata

---@param key string
---@return boolean
function ns:exists(key) end

---@param key string
---@param opts? kv.IfRev
---@return boolean? deleted
---@return string? message
---@return kv.Code? code
function ns:delete(key, opts) end

---A page of keys in byte order.
---@param opts? kv.ListOptions
---@return kv.Page?
---@return string? message
---@return kv.Code? code
function ns:list(opts) end

---@param opts? kv.Range
---@return fun(): string?, any
function ns:pairs(opts) end

---@param opts? kv.Range
---@return string[]?
---@return string? message
---@return kv.Code? code
function ns:keys(opts) end

---@param opts? kv.Range
---@return integer?
---@return string? message
---@return kv.Code? code
function ns:count(opts) end

---@param opts? kv.Range
---@return table<string, any>?
---@return string? message
---@return kv.Code? code
function ns:get_all(opts) end

---Seconds left; false: never expires; nil: no such key.
---@param key string
---@return number|false|nil
function ns:ttl(key) end

---@param key string
---@param seconds number <= 0 deletes the key
---@return boolean? was_there
---@return string? message
---@return kv.Code? code
function ns:expire(key, seconds) end

---@param key string
---@return boolean? had_a_ttl
---@return string? message
---@return kv.Code? code
function ns:persist(key) end

---@param key string
---@param by? number (1)
---@param opts? kv.IncrOptions
---@return number|false|nil
---@return string? message
---@return kv.Code? code
function ns:incr(key, by, opts) end

---@param keys string[]
---@return table<string, any>?
---@return string? message
---@return kv.Code? code
function ns:get_many(keys) end

---All or nothing.
---@param items table<string, kv.Value>|kv.Item[]
---@param opts? kv.WriteOptions for all of them
---@return integer|false|nil written
---@return string? message
---@return kv.Code? code
function ns:put_many(items, opts) end

---@param keys string[]
---@return integer? deleted
---@return string? message
---@return kv.Code? code
function ns:delete_many(keys) end

---@param prefix string not empty
---@return integer? deleted
---@return string? message
---@return kv.Code? code
function ns:delete_prefix(prefix) end

---@return integer? deleted
---@return string? message
---@return kv.Code? code
function ns:clear() end

---@param key string
---@param value kv.Value
---@param opts? kv.WriteOptions
---@return any old
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:swap(key, value, opts) end

---@param key string
---@param opts? kv.IfRev
---@return any old
---@return string? message
---@return kv.Code? code
function ns:take(key, opts) end

-- JSON fields: indexes count from 0, -1 is the last ---------------------------------------------

---The value at the path; nil if there is none.
---@param key string
---@param path? kv.Path
---@return any value
---@return string? message
---@return kv.Code? code
function ns:json_get(key, path) end

---@param key string
---@param path? kv.Path
---@return "object"|"array"|"string"|"integer"|"number"|"boolean"|"null"|nil name
---@return string? message
---@return kv.Code? code
function ns:json_type(key, path) end

---Elements of an array, members of an object, bytes of a string.
---@param key string
---@param path? kv.Path
---@return integer? length
---@return string? message
---@return kv.Code? code
function ns:json_length(key, path) end

---The names of an object's members, in the order of the document.
---@param key string
---@param path? kv.Path
---@return string[]? names
---@return string? message
---@return kv.Code? code
function ns:json_keys(key, path) end

---Sets a field; makes missing objects on the way, and the key.
---@param key string
---@param path kv.Path|nil
---@param value kv.Value
---@param opts? kv.FieldOptions
---@return integer|false|nil rev
---@return string? message
---@return kv.Code? code
function ns:json_set(key, path, value, opts) end

---A missing number counts as 0.
---@param key string
---@param path kv.Path|nil
---@param by? number
---@param opts? kv.FieldOptions
---@return number|false|nil n
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_increment(key, path, by, opts) end

ns.json_incr = ns.json_increment

---Appends to an array, which is made if it is missing.
---@param key string
---@param path kv.Path|nil
---@param value kv.Value
---@param opts? kv.FieldOptions
---@return integer|false|nil length
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_push(key, path, value, opts) end

---Appends the elements of an array.
---@param key string
---@param path kv.Path|nil
---@param array table
---@param opts? kv.FieldOptions
---@return integer|false|nil length
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_extend(key, path, array, opts) end

---Puts a value before the element that the path leads to.
---@param key string
---@param path kv.Path
---@param value kv.Value
---@param opts? kv.FieldOptions
---@return integer|false|nil length
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_insert(key, path, value, opts) end

---Takes an element out, the last one unless told; nil if there is none.
---@param key string
---@param path kv.Path|nil
---@param index? integer
---@param opts? kv.FieldOptions
---@return any value
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_pop(key, path, index, opts) end

---Removes a member or an element; false if it was not there.
---@param key string
---@param path kv.Path|nil
---@param opts? kv.FieldOptions
---@return boolean? removed
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_remove(key, path, opts) end

---Merges a patch into the whole document, as RFC 7396 says.
---@param key string
---@param patch kv.Value
---@param opts? kv.FieldOptions
---@return integer|false|nil rev
---@return string? message
---@return kv.Code? code
function ns:json_merge(key, patch, opts) end

---A missing boolean counts as false.
---@param key string
---@param path kv.Path|nil
---@param opts? kv.FieldOptions
---@return boolean? now
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_toggle(key, path, opts) end

---Appends text to a string, a missing one being empty.
---@param key string
---@param path kv.Path|nil
---@param text string
---@param opts? kv.FieldOptions
---@return integer|false|nil bytes
---@return string? message
---@return integer|kv.Code|nil rev_or_code
function ns:json_append(key, path, text, opts) end

-- Import and export -------------------------------------------------------------------------------

---What export writes to: a function that takes each piece, and nil at the end, or an object with
---write(self, piece), such as a file handle.
---@alias kv.Sink (fun(piece: string?): any)|table|userdata

---@class kv.ImportOptions
---@field format? "ndjson"|"json" (found out)
---@field values? "text" keep each value of a flat object as its JSON text
---@field continue_on_error? boolean leave bad records out and return them (false)

---@class kv.ExportOptions
---@field format? "ndjson"|"json" ("ndjson"; "json" for a path that ends in .json)
---@field prefix? string
---@field start? string
---@field stop? string

---@class kv.BadRecord
---@field line integer
---@field record integer
---@field message string
---@field code kv.Code

---@param source string|kv.Reader a path, or what gives pieces
---@param opts? kv.ImportOptions
---@return integer? records
---@return string? message
---@return kv.BadRecord[]|kv.Code|nil bad_or_code
function ns:import(source, opts) end

---@param sink string|kv.Sink a path, or what takes pieces
---@param opts? kv.ExportOptions
---@return integer? records
---@return string? message
---@return kv.Code? code
function ns:export(sink, opts) end

---A plain table of the operations, called with a dot, that leads nowhere else: for code that is not
---trusted with the store.
---@return kv.Bound
function ns:bind() end

-- A store ----------------------------------------------------------------------------------------

---@class kv.Store
local store = {}

---@param name string 1 to 255 bytes
---@param opts? { description?: string, create?: boolean }
---@return kv.Namespace?
---@return string? message
---@return kv.Code? code
function store:namespace(name, opts) end

---@return kv.NamespaceInfo[]?
---@return string? message
---@return kv.Code? code
function store:namespaces() end

---A namespace for one installation of an app. Ids are 1 to 100 bytes, any.
---@param app_id string
---@param installation_id string
---@return kv.Namespace?
---@return string? message
---@return kv.Code? code
function store:app(app_id, installation_id) end

---A namespace for all installations of an app.
---@param app_id string
---@return kv.Namespace?
---@return string? message
---@return kv.Code? code
function store:global(app_id) end

---Removes a namespace and all it holds.
---@param name string
---@return integer? keys
---@return string? message
---@return kv.Code? code
function store:drop(name) end

---@return integer
function store:rev() end

---Everything written so far is durable when it returns true.
---@return true?
---@return string? message
---@return kv.Code? code
function store:sync() end

---Expires and cleans up.
---@param max? integer items (all that is due)
---@return integer? done
---@return string? message
---@return kv.Code? code
function store:tick(max) end

---@return kv.Stats?
---@return string? message
---@return kv.Code? code
function store:stats() end

---Verifies everything.
---@return true?
---@return string? message
---@return kv.Code? code
function store:check() end

---A store of the records as of now, in a directory that is missing or empty.
---@param dir string
---@return integer? records
---@return string? message
---@return kv.Code? code
function store:backup(dir) end

---Ends the store and every namespace made from it. May be called again.
---@return true
function store:close() end

-- The module -------------------------------------------------------------------------------------

---The operations of kv.Namespace, called with a dot. The table of `ns:bind()`.
---@class kv.Bound
---@field null lightuserdata
---@field array fun(t?: table): table
---@field encode fun(value: kv.Value): string
---@field decode fun(text: string): any, string?, kv.Code?
---@field put fun(key: string, value: kv.Value, opts?: kv.WriteOptions): integer|false|nil, string?, kv.Code?
---@field set fun(key: string, value: kv.Value, opts?: kv.WriteOptions): integer|false|nil, string?, kv.Code?
---@field writer fun(key: string, opts?: kv.WriteOptions): kv.WriteStream?, string?, kv.Code?
---@field get fun(key: string, as?: kv.As): any, string?, kv.Code?
---@field get_with_metadata fun(key: string, as?: kv.As): kv.Entry?, string?, kv.Code?
---@field entry fun(key: string, as?: kv.As): kv.Entry?, string?, kv.Code?
---@field exists fun(key: string): boolean
---@field delete fun(key: string, opts?: kv.IfRev): boolean?, string?, kv.Code?
---@field list fun(opts?: kv.ListOptions): kv.Page?, string?, kv.Code?
---@field pairs fun(opts?: kv.Range): fun(): string?, any
---@field keys fun(opts?: kv.Range): string[]?, string?, kv.Code?
---@field count fun(opts?: kv.Range): integer?, string?, kv.Code?
---@field get_all fun(opts?: kv.Range): table<string, any>?, string?, kv.Code?
---@field ttl fun(key: string): number|false|nil
---@field expire fun(key: string, seconds: number): boolean?, string?, kv.Code?
---@field persist fun(key: string): boolean?, string?, kv.Code?
---@field incr fun(key: string, by?: number, opts?: kv.IncrOptions): number|false|nil, string?, kv.Code?
---@field get_many fun(keys: string[]): table<string, any>?, string?, kv.Code?
---@field put_many fun(items: table, opts?: kv.WriteOptions): integer|false|nil, string?, kv.Code?
---@field delete_many fun(keys: string[]): integer?, string?, kv.Code?
---@field delete_prefix fun(prefix: string): integer?, string?, kv.Code?
---@field clear fun(): integer?, string?, kv.Code?
---@field swap fun(key: string, value: kv.Value, opts?: kv.WriteOptions): any, string?, integer|kv.Code|nil
---@field take fun(key: string, opts?: kv.IfRev): any, string?, kv.Code?
---@field import fun(source: string|kv.Reader, opts?: kv.ImportOptions): integer?, string?, kv.BadRecord[]|kv.Code|nil
---@field export fun(sink: string|kv.Sink, opts?: kv.ExportOptions): integer?, string?, kv.Code?
---@field json_get fun(key: string, path?: kv.Path): any, string?, kv.Code?
---@field json_type fun(key: string, path?: kv.Path): "object"|"array"|"string"|"integer"|"number"|"boolean"|"null"|nil, string?, kv.Code?
---@field json_length fun(key: string, path?: kv.Path): integer?, string?, kv.Code?
---@field json_keys fun(key: string, path?: kv.Path): string[]?, string?, kv.Code?
---@field json_set fun(key: string, path: kv.Path?, value: kv.Value, opts?: kv.FieldOptions): integer|false|nil, string?, kv.Code?
---@field json_increment fun(key: string, path: kv.Path?, by?: number, opts?: kv.FieldOptions): number|false|nil, string?, integer|kv.Code|nil
---@field json_incr fun(key: string, path: kv.Path?, by?: number, opts?: kv.FieldOptions): number|false|nil, string?, integer|kv.Code|nil
---@field json_push fun(key: string, path: kv.Path?, value: kv.Value, opts?: kv.FieldOptions): integer|false|nil, string?, integer|kv.Code|nil
---@field json_extend fun(key: string, path: kv.Path?, array: table, opts?: kv.FieldOptions): integer|false|nil, string?, integer|kv.Code|nil
---@field json_insert fun(key: string, path: kv.Path, value: kv.Value, opts?: kv.FieldOptions): integer|false|nil, string?, integer|kv.Code|nil
---@field json_pop fun(key: string, path: kv.Path?, index?: integer, opts?: kv.FieldOptions): any, string?, integer|kv.Code|nil
---@field json_remove fun(key: string, path: kv.Path?, opts?: kv.FieldOptions): boolean?, string?, integer|kv.Code|nil
---@field json_merge fun(key: string, patch: kv.Value, opts?: kv.FieldOptions): integer|false|nil, string?, kv.Code?
---@field json_toggle fun(key: string, path: kv.Path?, opts?: kv.FieldOptions): boolean?, string?, integer|kv.Code|nil
---@field json_append fun(key: string, path: kv.Path?, text: string, opts?: kv.FieldOptions): integer|false|nil, string?, integer|kv.Code|nil

---The operations are here too: on the namespace "default" of the default store.
---@class kv: kv.Bound
---@field _VERSION string
---@field instances fun(root: string): kv.Instances
---@field manifest fun(store: kv.Store, names: string[]): table<string, kv.Bound>?, string?, kv.Code?
local kv = {}

---@param path string a directory, or ":memory:"
---@param opts? kv.OpenOptions
---@return kv.Store?
---@return string? message
---@return kv.Code? code
function kv.open(path, opts) end

---Tags a table as an array.
---@param t? table
---@return table
function kv.array(t) end

---@param value kv.Value
---@return string
function kv.encode(value) end

---@param text string
---@return any value
---@return string? message
---@return kv.Code? code
function kv.decode(text) end
