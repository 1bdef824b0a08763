-- SPDX-License-Identifier: MIT
--
-- reference_codebolt_spec.lua - the examples of Codebolt's kvStore, in their Lua form.
-- docs/migrating.md says what became what.

local kv = require "kv"
local helper = require "helper"

describe("codebolt.kvStore", function()
  local instances, store
  before_each(function()
    instances = kv.instances(helper.path())
    store = assert(instances:open("kv-instance-id", { auto_create = true, sync = "none" }))
  end)
  after_each(function() store:close() end)
  teardown(helper.sweep)

  it("example 1: a simple value; the record", function()
    local before = os.time()
    local preferences = store:namespace("user-preferences")
    local rev, message = preferences:set("theme", "dark")
    assert(rev, message)
    local record = preferences:entry("theme")
    assert.is_string(record.id)
    assert.equal("kv-instance-id", record.instance)
    assert.equal("user-preferences", record.namespace)
    assert.equal("theme", record.key)
    assert.equal("dark", record.value)
    assert(record.created_at >= before and record.created_at <= os.time() + 1)
    assert.equal(record.created_at, record.updated_at)
    assert.equal(rev, record.rev)
  end)

  it("example 2: an object with nested data", function()
    local profile = {
      userId = "user-123", name = "John Doe", email = "john@example.com",
      preferences = {
        theme = "dark", language = "en",
        notifications = { email = true, push = false, sms = false },
      },
      metadata = { createdAt = os.time() * 1000, source = "registration" },
    }
    local users = store:namespace("users")
    assert(users:set("user-123", profile))
    assert.same(profile, users:get("user-123"))
  end)

  it("example 3: an update keeps id and created_at", function()
    local counter = store:namespace("counter")
    assert(counter:set("visits", { count = 0, lastVisit = kv.null }))
    local first = counter:entry("visits")
    assert.equal(kv.null, first.value.lastVisit)
    -- As the example has it, safe against a second writer:
    local current = counter:entry("visits")
    assert(counter:set("visits", { count = current.value.count + 1, lastVisit = os.time() },
      { if_rev = current.rev }))
    helper.refuses("conflict", counter:set("visits", { count = 9 }, { if_rev = current.rev }))
    -- Or in one step:
    assert.equal(2, (counter:json_increment("visits", "count")))
    local last = counter:entry("visits")
    assert.equal(2, last.value.count)
    assert.equal(first.id, last.id)
    assert.equal(first.created_at, last.created_at)
    assert(last.updated_at >= first.updated_at)
  end)

  it("example 4: an array", function()
    local list = {
      { id = 1, name = "Milk", quantity = 2, purchased = false },
      { id = 2, name = "Bread", quantity = 1, purchased = false },
      { id = 3, name = "Eggs", quantity = 12, purchased = true },
    }
    local shopping = store:namespace("shopping")
    assert(shopping:set("list-2024-01-19", list))
    assert.same(list, shopping:get("list-2024-01-19"))
    assert.equal(4, (shopping:json_push("list-2024-01-19", "", { id = 4, name = "Tea" })))
  end)

  it("example 5: an instance is made only when asked for", function()
    local missing, message, code = instances:open("new-instance-id")
    assert.is_nil(missing)
    assert.truthy(message:find("new-instance-id", 1, true))
    assert.equal("not_found", code)
    local made = assert(instances:open("new-instance-id", { auto_create = true }))
    assert(made:namespace("cache"):set("key1", { data = "value" }))
    made:close()
    made = assert(instances:open("new-instance-id"))
    assert.same({ data = "value" }, made:namespace("cache"):get("key1"))
    made:close()
    assert.same({ "kv-instance-id", "new-instance-id" }, instances:list())
    assert.is_true(instances:delete("new-instance-id"))
  end)

  it("example 6: expiry needs no wrapper", function()
    local cache = store:namespace("temp-cache")
    local minutes = 5
    assert(cache:set("api-response", { temperature = 72, condition = "Sunny" },
      { ttl = minutes * 60 }))
    assert.same({ temperature = 72, condition = "Sunny" }, cache:get("api-response"))
    assert(cache:ttl("api-response") <= 300)
    assert(cache:set("brief", 1, { ttl = 0.02 }))
    while cache:exists("brief") do os.execute("sleep 0.01") end
    assert.is_nil(cache:get("brief"))
  end)

  it("the notes: overwriting, case, keys within a namespace, what cannot be stored", function()
    local a, b = store:namespace("A"), store:namespace("a")
    a:set("K", 1)
    a:set("k", 2)
    b:set("K", 3)
    assert.same({ 1, 2, 3 }, { a:get("K"), a:get("k"), b:get("K") })
    a:set("K", "over")
    assert.equal("over", a:get("K"))
    local circular = {}
    circular.self = circular
    helper.raises("value.self", a.set, a, "bad", circular)
    helper.raises("value.f", a.set, a, "bad", { f = print })
    assert.is_false(a:exists("bad"))
  end)

  it("the queue that the use cases name", function()
    local queues = store:namespace("queues")
    for i = 1, 3 do queues:json_push("jobs", "", { job = i }) end
    for i = 1, 3 do assert.same({ job = i }, (queues:json_pop("jobs", "", 0))) end
    assert.is_nil((queues:json_pop("jobs", "", 0)))
  end)
end)
