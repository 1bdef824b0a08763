-- What wrk says at its end, in microseconds, in a form for neighbour.lua.

function done(summary, latency)
  local e = summary.errors
  io.write(("p50 %d p99 %d max %d failed %d rate %d\n"):format(latency:percentile(50),
    latency:percentile(99), latency.max, e.connect + e.read + e.write + e.status + e.timeout,
    summary.requests / summary.duration * 1e6))
end
