"""The Redis scripts of a lock's waiting queue; see `scripts` for the lock's own, and for the KEYS.

A waiter has a **position**: the time of a server at which it began to wait. The waiter with the earliest
position is first in the queue. Each request of a waiter is its **heartbeat**. When the lock is free, the
queue skips a waiter without a heartbeat for HEARTBEAT, or past its **deadline**. A waiter that comes back
gets its position again.

All three are sorted sets with the waiters as members:

    5 queue       its position (ms, with three decimals)
    6 deadlines   until when it waits (ms)
    7 heartbeats  until when it counts as alive (ms)
"""

from __future__ import annotations

# ms for which a heartbeat counts. A waiter asks at least once a second, so a free lock skips any number of
# dead waiters within this time and one request.
HEARTBEAT = 2_000
# ms for which a waiter counts as alive after the triggerer has woken it: Airflow starts its task meanwhile.
STARTS_WITHIN = 15_000
AFTERWARDS = 60_000  # ms that the keys stay after the last deadline
AT_ONCE = 1_000  # expired entries that one script removes

# Time is always the server's, so that no worker's clock decides.
NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# Return the first waiter that is alive, or false, and remove the dead ones before it.
FIRST_WAITER_FUNCTION = """
local function first_waiter()
  while true do
    local first = redis.call('ZRANGE', KEYS[5], 0, 0)[1]
    if not first then return false end
    local deadline = tonumber(redis.call('ZSCORE', KEYS[6], first) or 0)
    if deadline >= now and tonumber(redis.call('ZSCORE', KEYS[7], first) or 0) >= now then return first end
    redis.call('ZREM', KEYS[5], first)
    redis.call('ZREM', KEYS[7], first)
    if deadline < now then redis.call('ZREM', KEYS[6], first) end
  end
end
"""

# Return whether the queue skipped the owner, which had no heartbeat, although its deadline is not over.
SKIPPED_FUNCTION = """
local function skipped(owner)
  if redis.call('ZSCORE', KEYS[5], owner) then return false end
  return tonumber(redis.call('ZSCORE', KEYS[6], owner) or 0) >= now
end
"""

LEAVE_FUNCTION = """
local function leave_queue(owner)
  for key = 5, 7 do redis.call('ZREM', KEYS[key], owner) end
end
"""

# Put the owner into the queue at `position`; if that is '', where it is already, or else at the end.
_ENQUEUE = f"""
local function enqueue(owner, position, left)
  local current = redis.call('ZSCORE', KEYS[5], owner)
  if not current then
    local over = redis.call('ZRANGEBYSCORE', KEYS[6], '-inf', '(' .. now, 'LIMIT', 0, {AT_ONCE})
    if #over > 0 then
      for key = 5, 7 do redis.call('ZREM', KEYS[key], unpack(over)) end
    end
  end
  if position == '' then position = current or string.format('%.3f', clock[1] * 1000 + clock[2] / 1000) end
  if position ~= current then redis.call('ZADD', KEYS[5], position, owner) end
  redis.call('ZADD', KEYS[6], 'NX', now + left, owner)
  redis.call('ZADD', KEYS[7], now + {HEARTBEAT}, owner)
  left = tonumber(redis.call('ZSCORE', KEYS[6], owner)) - now
  for key = 5, 7 do
    local kept = math.max(left, 0) + {AFTERWARDS}
    if redis.call('PTTL', KEYS[key]) < kept then redis.call('PEXPIRE', KEYS[key], kept) end
  end
  return {{position, string.format('%d', left), current and 'kept' or 'new'}}
end
"""


# ARGV: owner, position or '', ms until its deadline. Returns the owner's position, the ms until the deadline
# of its first call, and 'kept' if it had a position before, else 'new'.
QUEUE = f"{NOW}{_ENQUEUE}return enqueue(ARGV[1], ARGV[2], ARGV[3])"

# ARGV: owner, channel. Removes a waiter. If the lock is free and the waiter was first, publishes the next
# one.
UNQUEUE = f"""{NOW}{FIRST_WAITER_FUNCTION}{LEAVE_FUNCTION}
local first = redis.call('ZRANGE', KEYS[5], 0, 0)[1] == ARGV[1]
leave_queue(ARGV[1])
if first and redis.call('EXISTS', KEYS[1]) == 0 then redis.call('PUBLISH', ARGV[2], first_waiter() or '') end
return 'left'
"""

# ARGV: owner, position or '', ms until its deadline, for each waiter of one triggerer. Is the heartbeat of
# all of them, and puts them into the queue again at their positions if Redis lost its keys. Returns the first
# waiter if the lock is free, else '', and then the position of each waiter of ARGV. If the first waiter is
# one of ARGV's, the triggerer wakes it now, and it counts as alive for STARTS_WITHIN.
POLL = f"""{NOW}{FIRST_WAITER_FUNCTION}{_ENQUEUE}
local positions = {{}}
for i = 1, #ARGV, 3 do
  local position = redis.call('ZSCORE', KEYS[5], ARGV[i])
  if position then
    if tonumber(redis.call('ZSCORE', KEYS[7], ARGV[i]) or 0) < now + {HEARTBEAT} then
      redis.call('ZADD', KEYS[7], now + {HEARTBEAT}, ARGV[i])
    end
  else
    position = enqueue(ARGV[i], ARGV[i + 1], ARGV[i + 2])[1]
  end
  positions[#positions + 1] = position
end
local first = redis.call('EXISTS', KEYS[1]) == 0 and first_waiter() or ''
for i = 1, #ARGV, 3 do
  if ARGV[i] == first then redis.call('ZADD', KEYS[7], now + {STARTS_WITHIN}, first) end
end
return {{first, unpack(positions)}}
"""
