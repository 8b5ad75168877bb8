-- Asks as relay.py does, each request with an id of its own, and counts answers to no request that is under way.
local before = '{"model":"' .. os.getenv("MODEL") .. '","messages":[{"role":"user","content":"#'
local after = '# ' .. string.rep("What is the capital of Norway, and how many people live there? ", 6) .. '"}],"stream":false}'
local pending, count = {}, 0
wrong = 0

function init()
  wrk.method = "POST"
  wrk.headers["Authorization"] = "Bearer sk-benchmark"
  wrk.headers["Content-Type"] = "application/json"
end

function request()
  count = count + 1
  local id = string.format("%06d-%09d", 0, count)
  pending[id] = true
  return wrk.format(nil, nil, nil, before .. id .. after)
end

function response(status, headers, body)
  local id = string.match(body, '"chatcmpl%-([0-9-]+)"')
  if status ~= 200 or id == nil or not pending[id] then
    wrong = wrong + 1
  else
    pending[id] = nil
  end
end

local threads = {}
function setup(thread) table.insert(threads, thread) end

function done(summary)
  local all = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
  for _, thread in ipairs(threads) do all = all + thread:get("wrong") end
  print(string.format("answers %d wrong %d microseconds %d", summary.requests, all, summary.duration))
end
