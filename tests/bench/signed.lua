-- wrk: each thread sends its own share of pre-signed requests, none twice.
-- Arguments after --: file, path, threads, then headers as Name=Value.
local threads = 0
function setup(thread)
  thread:set("id", threads)
  threads = threads + 1
end

function init(args)
  local file, path, shares = args[1], args[2], tonumber(args[3])
  requests, at = {}, 0
  local extra = {}
  for i = 4, #args do
    local name, value = args[i]:match("([^=]+)=(.*)")
    extra[name] = value
  end
  local line = 0
  for text in io.lines(file) do
    if line % shares == id then
      local input, signature = text:match("([^\t]+)\t(.+)")
      local headers = { ["Host"] = "leader", ["Signature-Input"] = input, ["Signature"] = signature }
      for name, value in pairs(extra) do headers[name] = value end
      requests[#requests + 1] = wrk.format("GET", path, headers)
    end
    line = line + 1
  end
end

function request()
  at = at + 1
  if at > #requests then
    wrk.thread:stop()
    return requests[#requests]
  end
  return requests[at]
end

function done(summary, latency)
  io.write(string.format("RESULT %.1f %d %d\n", summary.requests / summary.duration * 1e6, summary.errors.status, latency:percentile(99)))
end
