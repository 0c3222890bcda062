"""The Redis scripts of a lock's waiting queue; see `scripts` for the lock's own, and for the KEYS.

A waiter has a **position**, a server's time at which it began to wait; the first position is first in the
queue. Each look of a waiter at the lock is its **heartbeat**. Who has none for HEARTBEAT is skipped when the
lock is free, and so is who is past its **deadline**. A waiter that comes back has its position again.

All three are sorted sets with the waiters as members:

    5 queue       its position (ms, with three decimals)
    6 deadlines   until when it waits (ms)
    7 heartbeats  until when it counts as alive (ms)
"""

from __future__ import annotations

# ms for which a look at the lock counts as a sign of life. A waiter looks at least once a second, and a
# free lock passes over any number of dead waiters within this time and one look.
HEARTBEAT = 2_000
# ms that a waiter has to begin once the triggerer has woken it: Airflow starts its task again meanwhile.
STARTS_WITHIN = 15_000
AFTERWARDS = 60_000  # ms that the keys stay after the last deadline
AT_ONCE = 1_000  # entries that are over, removed by one script

# Time is always the server's, so that no worker's clock decides.
NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

# Return the first waiter that is alive, or false, and remove those before it.
TURN_FUNCTION = """
local function turn()
  while true do
    local head = redis.call('ZRANGE', KEYS[5], 0, 0)[1]
    if not head then return false end
    local deadline = tonumber(redis.call('ZSCORE', KEYS[6], head) or 0)
    if deadline >= now and tonumber(redis.call('ZSCORE', KEYS[7], head) or 0) >= now then return head end
    redis.call('ZREM', KEYS[5], head)
    redis.call('ZREM', KEYS[7], head)
    if deadline < now then redis.call('ZREM', KEYS[6], head) end
  end
end
"""

# Return whether the owner was skipped because it gave no sign of life, but waits still.
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

# Give the owner a place in the queue: at `position`, or if that is '' where it stands, or at the end.
_STAND = f"""
local function stand(owner, position, left)
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
QUEUE = f"{NOW}{_STAND}return stand(ARGV[1], ARGV[2], ARGV[3])"

# ARGV: owner, channel. Removes a waiter; if the lock is free and it was its turn, the next one is told.
UNQUEUE = f"""{NOW}{TURN_FUNCTION}{LEAVE_FUNCTION}
local first = redis.call('ZRANGE', KEYS[5], 0, 0)[1] == ARGV[1]
leave_queue(ARGV[1])
if first and redis.call('EXISTS', KEYS[1]) == 0 then redis.call('PUBLISH', ARGV[2], turn() or '') end
return 'left'
"""

# ARGV: owner, position or '', ms until its deadline, for each waiter of one triggerer. Is the heartbeat of
# all of them, and gives those their position again that a Redis which lost its keys has forgotten. Returns
# the waiter whose turn it is if the lock is free, else '', and then the position of each of ARGV. If it is
# one of ARGV's turn, it has STARTS_WITHIN to come: the triggerer wakes it now.
TURN = f"""{NOW}{TURN_FUNCTION}{_STAND}
local positions = {{}}
for i = 1, #ARGV, 3 do
  local position = redis.call('ZSCORE', KEYS[5], ARGV[i])
  if position then
    if tonumber(redis.call('ZSCORE', KEYS[7], ARGV[i]) or 0) < now + {HEARTBEAT} then
      redis.call('ZADD', KEYS[7], now + {HEARTBEAT}, ARGV[i])
    end
  else
    position = stand(ARGV[i], ARGV[i + 1], ARGV[i + 2])[1]
  end
  positions[#positions + 1] = position
end
local head = redis.call('EXISTS', KEYS[1]) == 0 and turn() or ''
for i = 1, #ARGV, 3 do
  if ARGV[i] == head then redis.call('ZADD', KEYS[7], now + {STARTS_WITHIN}, head) end
end
return {{head, unpack(positions)}}
"""
