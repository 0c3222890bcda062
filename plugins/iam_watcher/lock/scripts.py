"""The lock's Redis scripts, each atomic on its server, and the names of the keys.

Time is always the server's (`TIME`), so that no worker's clock decides; only the order of those who wait
goes by theirs, so that it is the same on all servers of a quorum. All scripts take the same KEYS,
which share a hash tag and so a slot in a Redis Cluster:

    1 lock      the owner: what redsync, and so the Go iam-watcher, has too
    2 info      hash: the last owner of ours, since when (ms), its ttl (ms)
    3 busy      hash: live work process -> `<expiry ms> <nonce>`
    4 revoked   sorted set: owner that was forced out -> until when (ms)
    5 waiters   sorted set: owner that waits -> since when (ms)
    6 until     hash: owner that waits -> its deadline (ms)
    7 offer     hash: the waiter whose turn it is, until when (ms)
    8 history   list: what was released by force, newest first, as JSON
    9 tick      the owner that did this tick (see `Lease`)
"""

from __future__ import annotations

SIDE_KEYS = ("info", "busy", "revoked", "waiters", "until", "offer", "history", "tick")
KEPT = 86_400_000  # ms that what only people read stays after the last use
OFFER = 15_000  # ms that the head of the queue has before the next one is asked
HISTORY = 100  # forced releases that are remembered


def keys(key: str, tick: str = "") -> list[str]:
    """Return the KEYS of every script for the lock `key`."""
    side = [side_key(key, name) for name in SIDE_KEYS]
    side[-1] += f":{tick}"
    return [key, *side]


def side_key(key: str, name: str) -> str:
    """Return the name of one of a lock's side keys."""
    return f"{{{key}}}:{name}"


def released_channel(key: str) -> str:
    """Return the channel that tells whose turn it is when the lock `key` comes free."""
    return side_key(key, "released")


_NOW = """
local clock = redis.call('TIME')
local now = clock[1] * 1000 + math.floor(clock[2] / 1000)
"""

_REVOKED = """
local until_ms = redis.call('ZSCORE', KEYS[4], ARGV[1])
if until_ms and tonumber(until_ms) > now then return 'revoked' end
"""

_LIVE = """
local live = {}
local marks = redis.call('HGETALL', KEYS[3])
for i = 1, #marks, 2 do
  if tonumber(string.match(marks[i + 1], '^%d+')) > now then live[#live + 1] = marks[i] end
end
"""

_MARK = """
local function mark(member, nonce, ms)
  redis.call('HSET', KEYS[3], member, string.format('%d %s', now + ms, nonce))
  if redis.call('PTTL', KEYS[3]) < tonumber(ms) then redis.call('PEXPIRE', KEYS[3], ms) end
end
"""

# Whether another nonce that is alive has the member's mark.
_OCCUPIED = """
local function occupied(member, nonce)
  local found = redis.call('HGET', KEYS[3], member)
  if not found then return false end
  local expiry, other = string.match(found, '^(%d+) (.*)$')
  return other ~= nonce and tonumber(expiry) > now
end
"""

# Drops waiters that let their deadline or their turn pass, and returns the one whose turn it is now.
_TURN = f"""
local function turn()
  while true do
    local head = redis.call('ZRANGE', KEYS[5], 0, 0)[1]
    if not head then return false end
    local offered = redis.call('HMGET', KEYS[7], 'owner', 'until')
    local deadline = tonumber(redis.call('HGET', KEYS[6], head) or 0)
    if deadline < now or (offered[1] == head and tonumber(offered[2]) < now) then
      redis.call('ZREM', KEYS[5], head)
      redis.call('DEL', KEYS[7])
    else
      if offered[1] ~= head then
        redis.call('HSET', KEYS[7], 'owner', head, 'until', now + {OFFER})
        redis.call('PEXPIRE', KEYS[7], {KEPT})
      end
      return head
    end
  end
end
"""

# Whether the owner waits still, but let its turn pass: `turn` took its place in line, not its deadline.
_LATE = """
local function late(owner)
  if redis.call('ZSCORE', KEYS[5], owner) then return false end
  return tonumber(redis.call('HGET', KEYS[6], owner) or 0) >= now
end
"""

# ARGV: owner, ttl ms, max hold ms or 0, 1 to go ahead of the line or 0. Returns acquired | held (ours
# before) | busy (another's) | queued (free, but another's turn) | done (another did this tick) | revoked |
# max_hold. Who let its turn pass has a free key whosever turn it is: if all who wait need longer than their
# turn to come, the line would go round for ever. A longer ttl stays: another task of ours asked for it.
ACQUIRE = f"""{_NOW}{_REVOKED}{_TURN}{_LATE}
local did = redis.call('GET', KEYS[9])
if did and did ~= ARGV[1] then return 'done' end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 'busy' end
local info = redis.call('HMGET', KEYS[2], 'owner', 'since')
if owner then
  if ARGV[3] ~= '0' and info[1] == owner and now - info[2] >= tonumber(ARGV[3]) then return 'max_hold' end
elseif ARGV[4] == '0' then
  local head = turn()
  if head and head ~= ARGV[1] and not late(ARGV[1]) then return 'queued' end
end
-- The first write of all: a Redis that is full refuses it, and lets a script go on that has written.
local ttl = owner and math.max(ARGV[2], redis.call('PTTL', KEYS[1])) or ARGV[2]
redis.call('SET', KEYS[1], ARGV[1], 'PX', ttl)
if redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 then
  redis.call('DEL', KEYS[7])
  redis.call('ZREM', KEYS[5], ARGV[1])
  redis.call('HDEL', KEYS[6], ARGV[1])
end
if owner and info[1] == owner then
  redis.call('HSET', KEYS[2], 'ttl', ARGV[2])
else
  redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'since', now, 'ttl', ARGV[2])
end
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, 2 * ARGV[2]))
return owner and 'held' or 'acquired'
"""

# ARGV: owner, ttl ms, max hold ms or 0, member or '', nonce, busy ms.
# Returns renewed | foreign | revoked | max_hold | gone (no one holds it, but this Redis knows of us) |
# forgotten (this Redis knows nothing of us: it lost its keys) | replaced (a live worker has our mark).
# A longer ttl stays, as in ACQUIRE.
RENEW = f"""{_NOW}{_REVOKED}{_MARK}{_OCCUPIED}
local owner = redis.call('GET', KEYS[1])
local info = redis.call('HMGET', KEYS[2], 'owner', 'since')
if not owner then return info[1] and 'gone' or 'forgotten' end
if owner ~= ARGV[1] then return 'foreign' end
if ARGV[3] ~= '0' and info[1] == owner and now - info[2] >= tonumber(ARGV[3]) then return 'max_hold' end
if ARGV[4] ~= '' and occupied(ARGV[4], ARGV[5]) then return 'replaced' end
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[2], redis.call('PTTL', KEYS[1])))
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, 2 * ARGV[2]))
if ARGV[4] ~= '' then mark(ARGV[4], ARGV[5], ARGV[6]) end
return 'renewed'
"""

# ARGV: owner, channel, ms to remember the tick as done or 0. Under a lock that is another's by now the tick
# is theirs to do. Returns released | gone | foreign | working (a live worker of ours has a mark).
RELEASE = f"""{_NOW}{_TURN}{_LIVE}
local owner = redis.call('GET', KEYS[1])
local freed = owner == ARGV[1] and #live == 0
-- Before the tick: see ACQUIRE on a Redis that is full.
if freed then redis.call('DEL', KEYS[1], KEYS[3]) end
if ARGV[3] ~= '0' and (not owner or owner == ARGV[1]) then
  redis.call('SET', KEYS[9], ARGV[1], 'NX', 'PX', ARGV[3])
end
if freed then
  redis.call('PUBLISH', ARGV[2], turn() or '')
  return 'released'
end
if not owner then return 'gone' end
return owner == ARGV[1] and 'working' or 'foreign'
"""

# ARGV: owner. Undoes an acquisition that found no majority, where no other process of the owner has it.
GIVE_BACK = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 'given back'
"""

# ARGV: member, nonce, busy ms. Returns entered | occupied (by another nonce that is alive).
ENTER = f"""{_NOW}{_MARK}{_OCCUPIED}
if occupied(ARGV[1], ARGV[2]) then return 'occupied' end
mark(ARGV[1], ARGV[2], ARGV[3])
return 'entered'
"""

# ARGV: member, nonce. Returns left | foreign.
LEAVE = """
local found = redis.call('HGET', KEYS[3], ARGV[1])
if not found or string.match(found, '^%d+ (.*)$') ~= ARGV[2] then return 'foreign' end
redis.call('HDEL', KEYS[3], ARGV[1])
return 'left'
"""

_STAND = f"""
local function stand(owner, since, left)
  redis.call('ZADD', KEYS[5], 'NX', since, owner)
  redis.call('HSETNX', KEYS[6], owner, string.format('%d', now + left))
  left = redis.call('HGET', KEYS[6], owner) - now
  for _, key in ipairs({{KEYS[5], KEYS[6]}}) do
    redis.call('PEXPIRE', key, math.max({KEPT}, redis.call('PTTL', key), left + {KEPT}))
  end
  return left
end
"""

# ARGV: owner, waits since ms, ms until its deadline. Returns the ms until the deadline of the first call.
QUEUE = f"""{_NOW}{_STAND}
return stand(ARGV[1], ARGV[2], ARGV[3])
"""

# ARGV: owner, channel. Takes a waiter out of the queue; if it was its turn, the next one is told.
UNQUEUE = f"""{_NOW}{_TURN}
redis.call('ZREM', KEYS[5], ARGV[1])
redis.call('HDEL', KEYS[6], ARGV[1])
if redis.call('HGET', KEYS[7], 'owner') == ARGV[1] then
  redis.call('DEL', KEYS[7])
  if redis.call('EXISTS', KEYS[1]) == 0 then redis.call('PUBLISH', ARGV[2], turn() or '') end
end
return 'left'
"""

# ARGV: owner, waits since ms, ms until its deadline, for each of those who wait. Gives them the place in
# line back that a Redis which lost its keys has forgotten. Returns whose turn it is if the lock is free,
# else ''.
TURN = f"""{_NOW}{_TURN}{_STAND}
for i = 1, #ARGV, 3 do
  if not redis.call('ZSCORE', KEYS[5], ARGV[i]) then stand(ARGV[i], ARGV[i + 1], ARGV[i + 2]) end
end
if redis.call('EXISTS', KEYS[1]) == 1 then return '' end
return turn() or ''
"""

# ARGV: owner, channel, record (JSON). Frees the key of that owner whatever it does, keeps it from taking
# it again for two leases, and writes the record down. Returns revoked | gone | foreign.
REVOKE = f"""{_NOW}{_TURN}
local owner = redis.call('GET', KEYS[1])
if not owner then return 'gone' end
if owner ~= ARGV[1] then return 'foreign' end
local info = redis.call('HMGET', KEYS[2], 'owner', 'ttl')
local ttl = info[1] == owner and tonumber(info[2]) or redis.call('PTTL', KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
redis.call('ZADD', KEYS[4], now + 2 * math.max(ttl, 0), owner)
redis.call('PEXPIRE', KEYS[4], math.max({KEPT}, 2 * ttl))
redis.call('LPUSH', KEYS[8], ARGV[3])
redis.call('LTRIM', KEYS[8], 0, {HISTORY - 1})
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], turn() or '')
return 'revoked'
"""

# Returns {} if the key is free, else {owner, ttl ms, since ms or '', live member, live member, ...}.
INSPECT = f"""{_NOW}
local owner = redis.call('GET', KEYS[1])
if not owner then return {{}} end
local since = ''
if redis.call('HGET', KEYS[2], 'owner') == owner then since = redis.call('HGET', KEYS[2], 'since') end
{_LIVE}
return {{owner, redis.call('PTTL', KEYS[1]), since, unpack(live)}}
"""

# Returns the owner that did the tick, or ''.
TICK = "return redis.call('GET', KEYS[9]) or ''"
