"""The lock's Redis scripts, each atomic on its server, and the names of the keys.

Time is always the server's (`TIME`), so that no worker's clock decides. All scripts take the same KEYS,
which share a hash tag and so a slot in a Redis Cluster:

    1 lock        the owner; the same key as that of redsync, and so of the Go iam-watcher
    2 info        hash: owner (the last one), since (ms), ttl (ms); attempt (the last one that acquired the
                  lock, or found it held by its own owner), sole (1 as long as only that attempt relies on
                  it), token (a new one for each acquisition); what has ended: over (an attempt), freed (a
                  token), forced (the nonce of a forced release)
    3 busy        hash: task -> the heartbeat of its process: `<expiry ms> <nonce>`
    4 revoked     sorted set: owner whose lock was released by force -> until when it is refused (ms)
    5 queue       the waiting queue, together with the next two: see `queue_scripts`
    6 deadlines
    7 heartbeats  of the waiters
    8 history     list: the forced releases, newest first, as JSON
    9 tick        the owner that did this tick (see `Lease`)

A server may execute a command long after its client stopped waiting for the answer, or twice. So each attempt
to acquire has a nonce, and each server creates a token for each acquisition. GIVE_BACK names the attempt that
it undoes. RELEASE names the token, which its client has from the answer of that same server. A command that
comes late finds another attempt or token, and changes nothing. All keys expire.
"""

from __future__ import annotations

from iam_watcher.lock.queue_scripts import FIRST_WAITER_FUNCTION, LEAVE_FUNCTION, NOW, SKIPPED_FUNCTION

SIDE_KEYS = ("info", "busy", "revoked", "queue", "deadlines", "heartbeats", "history", "tick")
KEPT = 86_400_000  # ms after the last use, for what only people read
HISTORY_KEPT = 90 * KEPT  # the same, for forced releases
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
    """Return the channel on which a release publishes who is first in the waiting queue."""
    return side_key(key, "released")


def ms(seconds: float) -> int:
    """Return seconds as the scripts take them."""
    return round(seconds * 1000)


def text(value: bytes | str) -> str:
    """Return a text of an answer."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value


_REVOKED = """
local until_ms = redis.call('ZSCORE', KEYS[4], ARGV[1])
if until_ms and tonumber(until_ms) > now then return 'revoked' end
"""

LIVE = """
local live = {}
local all = redis.call('HGETALL', KEYS[3])
for i = 1, #all, 2 do
  if tonumber(string.match(all[i + 1], '^%d+')) > now then live[#live + 1] = all[i] end
end
"""

_HEARTBEAT = """
local function heartbeat(member, nonce, ms)
  redis.call('HSET', KEYS[3], member, string.format('%d %s', now + ms, nonce))
  if redis.call('PTTL', KEYS[3]) < tonumber(ms) then redis.call('PEXPIRE', KEYS[3], ms) end
end
"""

# Return whether another live process of the member has a heartbeat.
_OCCUPIED = """
local function occupied(member, nonce)
  local found = redis.call('HGET', KEYS[3], member)
  if not found then return false end
  local expiry, other = string.match(found, '^(%d+) (.*)$')
  return other ~= nonce and tonumber(expiry) > now
end
"""

# ARGV: owner, ttl ms, max hold ms or 0, 1 to go ahead of the queue or 0, attempt.
# Returns `acquired <token>` | `held <token>` (the owner had it before) | busy (another owner has it) | queued
# (free, but another owner is first in the queue) | done (another owner did this tick) | revoked | max_hold |
# over (this attempt was released or given back before: the command came late).
# An owner that the queue skipped gets a free key whoever is first: if all waiters need longer to come than
# the queue waits for them, nobody would ever get it. A longer ttl stays, because another task of the owner
# asked for it. If the same attempt asks twice, it gets the same answer and a new token.
ACQUIRE = f"""{NOW}{_REVOKED}{FIRST_WAITER_FUNCTION}{SKIPPED_FUNCTION}{LEAVE_FUNCTION}
local did = redis.call('GET', KEYS[9])
if did and did ~= ARGV[1] then return 'done' end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 'busy' end
local info = redis.call('HMGET', KEYS[2], 'owner', 'since', 'attempt', 'sole', 'over')
if info[5] == ARGV[5] then return 'over' end
if owner then
  if ARGV[3] ~= '0' and info[1] == owner and now - info[2] >= tonumber(ARGV[3]) then return 'max_hold' end
elseif ARGV[4] == '0' then
  local first = first_waiter()
  if first and first ~= ARGV[1] and not skipped(ARGV[1]) then return 'queued' end
end
-- The first write of all: a Redis that is full refuses it, and lets a script go on that has written.
local ttl = owner and math.max(ARGV[2], redis.call('PTTL', KEYS[1])) or ARGV[2]
redis.call('SET', KEYS[1], ARGV[1], 'PX', ttl)
if redis.call('EXISTS', KEYS[5], KEYS[6]) > 0 then leave_queue(ARGV[1]) end
local sole = (not owner or (info[3] == ARGV[5] and info[4] == '1')) and 1 or 0
local since = owner and info[1] == owner and info[2] or now
local token = clock[1] .. '.' .. clock[2]
redis.call(
  'HSET', KEYS[2], 'owner', ARGV[1], 'since', since, 'ttl', ARGV[2],
  'attempt', ARGV[5], 'sole', sole, 'token', token
)
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, 2 * ARGV[2]))
return (sole == 1 and 'acquired ' or 'held ') .. token
"""

# ARGV: owner, ttl ms, max hold ms or 0, member or '', nonce, heartbeat ms.
# Returns renewed | foreign | revoked | max_hold | gone (nobody holds it, but this Redis knows the lock) |
# forgotten (this Redis does not know the lock: it lost its keys) | replaced (another live process of the
# member has a heartbeat). A longer ttl stays, as in ACQUIRE. A process that renews relies on the key, so no
# attempt may give it back any more.
RENEW = f"""{NOW}{_REVOKED}{_HEARTBEAT}{_OCCUPIED}
local owner = redis.call('GET', KEYS[1])
local info = redis.call('HMGET', KEYS[2], 'owner', 'since', 'sole')
if not owner then return info[1] and 'gone' or 'forgotten' end
if owner ~= ARGV[1] then return 'foreign' end
if ARGV[3] ~= '0' and info[1] == owner and now - info[2] >= tonumber(ARGV[3]) then return 'max_hold' end
if ARGV[4] ~= '' and occupied(ARGV[4], ARGV[5]) then return 'replaced' end
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[2], redis.call('PTTL', KEYS[1])))
if info[3] == '1' then redis.call('HSET', KEYS[2], 'sole', 0) end
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, 2 * ARGV[2]))
if ARGV[4] ~= '' then heartbeat(ARGV[4], ARGV[5], ARGV[6]) end
return 'renewed'
"""

# ARGV: owner, channel, ms for which the tick is stored as done or 0, token.
# Returns released | gone | foreign | working (a process of the owner has a heartbeat) | `changed <token>`
# (the owner has the key by that token, which differs from ARGV's: ask again with it). If the key was released
# by that token before, the answer is still `released`. If another owner has the lock, the tick is not stored
# as done: that owner does it.
RELEASE = f"""{NOW}{FIRST_WAITER_FUNCTION}{LIVE}
local owner = redis.call('GET', KEYS[1])
local info = redis.call('HMGET', KEYS[2], 'owner', 'token', 'attempt', 'freed')
local token = info[1] == ARGV[1] and info[2] or ''
local freed = owner == ARGV[1] and #live == 0
if freed and token ~= ARGV[4] then return 'changed ' .. token end
-- Before the tick: see ACQUIRE on a Redis that is full.
if freed then redis.call('DEL', KEYS[1], KEYS[3]) end
if ARGV[3] ~= '0' and (not owner or owner == ARGV[1]) then
  redis.call('SET', KEYS[9], ARGV[1], 'NX', 'PX', ARGV[3])
end
if freed then
  if token ~= '' then redis.call('HSET', KEYS[2], 'over', info[3], 'freed', token) end
  redis.call('PUBLISH', ARGV[2], first_waiter() or '')
  return 'released'
end
if owner == ARGV[1] then return 'working' end
if ARGV[4] ~= '' and info[4] == ARGV[4] then return 'released' end
return owner and 'foreign' or 'gone'
"""

# ARGV: owner, attempt. Undoes what this attempt acquired, unless another process of the owner relies on it.
# An attempt that is given back can't acquire the key later.
GIVE_BACK = f"""
local info = redis.call('HMGET', KEYS[2], 'attempt', 'sole')
if redis.call('GET', KEYS[1]) == ARGV[1] and info[1] == ARGV[2] and info[2] == '1' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[2], 'over', ARGV[2])
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, redis.call('PTTL', KEYS[2])))
return 'given back'
"""

# ARGV: member, nonce, heartbeat ms. Returns entered | occupied (another live process has a heartbeat).
ENTER = f"""{NOW}{_HEARTBEAT}{_OCCUPIED}
if occupied(ARGV[1], ARGV[2]) then return 'occupied' end
heartbeat(ARGV[1], ARGV[2], ARGV[3])
return 'entered'
"""

# ARGV: member, nonce. Returns left | foreign.
LEAVE = """
local found = redis.call('HGET', KEYS[3], ARGV[1])
if not found or string.match(found, '^%d+ (.*)$') ~= ARGV[2] then return 'foreign' end
redis.call('HDEL', KEYS[3], ARGV[1])
return 'left'
"""

# ARGV: owner, channel, record (JSON), nonce. Releases the key of that owner whatever the owner does, refuses
# it the key for two leases, and stores the record. Returns revoked | gone | foreign. If the key was released
# with this nonce before, the answer is still `revoked`.
REVOKE = f"""{NOW}{FIRST_WAITER_FUNCTION}
if redis.call('HGET', KEYS[2], 'forced') == ARGV[4] then return 'revoked' end
local owner = redis.call('GET', KEYS[1])
if not owner then return 'gone' end
if owner ~= ARGV[1] then return 'foreign' end
local info = redis.call('HMGET', KEYS[2], 'owner', 'ttl')
local ttl = info[1] == owner and tonumber(info[2]) or redis.call('PTTL', KEYS[1])
redis.call('ZREMRANGEBYSCORE', KEYS[4], '-inf', now)
redis.call('ZADD', KEYS[4], now + 2 * math.max(ttl, 0), owner)
redis.call('PEXPIRE', KEYS[4], math.max({KEPT}, 2 * ttl, redis.call('PTTL', KEYS[4])))
redis.call('HSET', KEYS[2], 'forced', ARGV[4])
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, redis.call('PTTL', KEYS[2])))
redis.call('LPUSH', KEYS[8], ARGV[3])
redis.call('LTRIM', KEYS[8], 0, {HISTORY - 1})
redis.call('PEXPIRE', KEYS[8], {HISTORY_KEPT})
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[2], first_waiter() or '')
return 'revoked'
"""

# Returns {} if the key is free, else {owner, ttl ms, since ms or '', member with a heartbeat, ...}.
INSPECT = f"""{NOW}
local owner = redis.call('GET', KEYS[1])
if not owner then return {{}} end
local since = ''
if redis.call('HGET', KEYS[2], 'owner') == owner then since = redis.call('HGET', KEYS[2], 'since') end
{LIVE}
return {{owner, redis.call('PTTL', KEYS[1]), since, unpack(live)}}
"""

# Returns the owner that did the tick, or ''.
TICK = "return redis.call('GET', KEYS[9]) or ''"
