-- SPDX-License-Identifier: MIT
--
-- start.lua - runs busted inside the Lua that was asked for, with the arguments given. (Its own
-- launcher starts a Lua of its choice, and `-e` has no arguments on 5.1.)

require "busted.runner" { standalone = false }
