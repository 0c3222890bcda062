"""The lock's Redis scripts, each atomic on its server, and the names of the keys.

Time is always the server's (`TIME`), so that no worker's clock decides. All scripts take the same KEYS,
which share a hash tag and so a slot in a Redis Cluster:

    1 lock        the owner: what redsync, and so the Go iam-watcher, has too
    2 info        hash: owner (the last one of ours), since (ms), ttl (ms); attempt (the last that acquired it
                  or found it ours), sole (1 as long as only that attempt relies on it), token (of that
                  moment, never the same again); what is over: over (attempt), freed (token), forced (nonce)
    3 busy        hash: live work process -> `<expiry ms> <nonce>`
    4 revoked     sorted set: owner that was forced out -> until when (ms)
    5 queue       the waiting queue, as the next two: see `queue_scripts`
    6 deadlines
    7 heartbeats
    8 history     list: what was released by force, newest first, as JSON
    9 tick        the owner that did this tick (see `Lease`)

A server may execute a command long after its client stopped waiting for the answer, or twice. So each attempt
to acquire has a name, a nonce, and each server gives a token to each acquisition. GIVE_BACK names the attempt
that it undoes; RELEASE names the token, which its client has from that server's own answer. One that comes
late finds another attempt or token there, and changes nothing. All keys expire.
"""

from __future__ import annotations

from iam_watcher.lock.queue_scripts import LEAVE_FUNCTION, NOW, SKIPPED_FUNCTION, TURN_FUNCTION

SIDE_KEYS = ("info", "busy", "revoked", "queue", "deadlines", "heartbeats", "history", "tick")
KEPT = 86_400_000  # ms that what only people read stays after the last use
HISTORY_KEPT = 90 * KEPT  # the same, for forced releases
HISTORY = 100  # forced releases that are remembered
CHANGED = "changed "


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

# ARGV: owner, ttl ms, max hold ms or 0, 1 to go ahead of the queue or 0, attempt. Returns acquired | held
# (ours before) | busy (another's) | queued (free, but another's turn) | done (another did this tick) |
# revoked | max_hold | over (this attempt was released or given back before: the command came late). Who was
# skipped in the queue has a free key whosever turn it is: if all who wait need longer than their turn to
# come, the queue would go round for ever. A longer ttl stays: another task of ours asked for it. After
# `acquired` and `held` stand a space and the token. The same attempt again has the same answer and a new
# token.
ACQUIRE = f"""{NOW}{_REVOKED}{TURN_FUNCTION}{SKIPPED_FUNCTION}{LEAVE_FUNCTION}
local did = redis.call('GET', KEYS[9])
if did and did ~= ARGV[1] then return 'done' end
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 'busy' end
local info = redis.call('HMGET', KEYS[2], 'owner', 'since', 'attempt', 'sole', 'over')
if info[5] == ARGV[5] then return 'over' end
if owner then
  if ARGV[3] ~= '0' and info[1] == owner and now - info[2] >= tonumber(ARGV[3]) then return 'max_hold' end
elseif ARGV[4] == '0' then
  local head = turn()
  if head and head ~= ARGV[1] and not skipped(ARGV[1]) then return 'queued' end
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

# ARGV: owner, ttl ms, max hold ms or 0, member or '', nonce, busy ms.
# Returns renewed | foreign | revoked | max_hold | gone (no one holds it, but this Redis knows of us) |
# forgotten (this Redis knows nothing of us: it lost its keys) | replaced (a live worker has our mark).
# A longer ttl stays, as in ACQUIRE. Who renews relies on the key: no attempt may give it back any more.
RENEW = f"""{NOW}{_REVOKED}{_MARK}{_OCCUPIED}
local owner = redis.call('GET', KEYS[1])
local info = redis.call('HMGET', KEYS[2], 'owner', 'since', 'sole')
if not owner then return info[1] and 'gone' or 'forgotten' end
if owner ~= ARGV[1] then return 'foreign' end
if ARGV[3] ~= '0' and info[1] == owner and now - info[2] >= tonumber(ARGV[3]) then return 'max_hold' end
if ARGV[4] ~= '' and occupied(ARGV[4], ARGV[5]) then return 'replaced' end
redis.call('PEXPIRE', KEYS[1], math.max(ARGV[2], redis.call('PTTL', KEYS[1])))
if info[3] == '1' then redis.call('HSET', KEYS[2], 'sole', 0) end
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, 2 * ARGV[2]))
if ARGV[4] ~= '' then mark(ARGV[4], ARGV[5], ARGV[6]) end
return 'renewed'
"""

# ARGV: owner, channel, ms to remember the tick as done or 0, token. Under a lock that is another's by now
# the tick is theirs to do. Returns released | gone | foreign | working (a live worker of ours has a mark) |
# `changed <token>` (the key is ours by that token, another one than ARGV's: who reads this may ask with it).
# What was released already is still `released`.
RELEASE = f"""{NOW}{TURN_FUNCTION}{LIVE}
local owner = redis.call('GET', KEYS[1])
local info = redis.call('HMGET', KEYS[2], 'owner', 'token', 'attempt', 'freed')
local token = info[1] == ARGV[1] and info[2] or ''
local freed = owner == ARGV[1] and #live == 0
if freed and token ~= ARGV[4] then return '{CHANGED}' .. token end
-- Before the tick: see ACQUIRE on a Redis that is full.
if freed then redis.call('DEL', KEYS[1], KEYS[3]) end
if ARGV[3] ~= '0' and (not owner or owner == ARGV[1]) then
  redis.call('SET', KEYS[9], ARGV[1], 'NX', 'PX', ARGV[3])
end
if freed then
  if token ~= '' then redis.call('HSET', KEYS[2], 'over', info[3], 'freed', token) end
  redis.call('PUBLISH', ARGV[2], turn() or '')
  return 'released'
end
if owner == ARGV[1] then return 'working' end
if ARGV[4] ~= '' and info[4] == ARGV[4] then return 'released' end
return owner and 'foreign' or 'gone'
"""

# ARGV: owner, attempt. Undoes what this attempt acquired, as long as no other process of the owner relies on
# it, and whenever it comes: an attempt that is given back acquires nothing later.
GIVE_BACK = f"""
local info = redis.call('HMGET', KEYS[2], 'attempt', 'sole')
if redis.call('GET', KEYS[1]) == ARGV[1] and info[1] == ARGV[2] and info[2] == '1' then
  redis.call('DEL', KEYS[1])
end
redis.call('HSET', KEYS[2], 'over', ARGV[2])
redis.call('PEXPIRE', KEYS[2], math.max({KEPT}, redis.call('PTTL', KEYS[2])))
return 'given back'
"""

# ARGV: member, nonce, busy ms. Returns entered | occupied (by another nonce that is alive).
ENTER = f"""{NOW}{_MARK}{_OCCUPIED}
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

# ARGV: owner, channel, record (JSON), nonce. Frees the key of that owner whatever it does, keeps it from
# taking it again for two leases, and writes the record down. Returns revoked | gone | foreign. What was freed
# with this nonce already is still `revoked`.
REVOKE = f"""{NOW}{TURN_FUNCTION}
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
redis.call('PUBLISH', ARGV[2], turn() or '')
return 'revoked'
"""

# Returns {} if the key is free, else {owner, ttl ms, since ms or '', live member, live member, ...}.
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
