"""The lock's Redis scripts, each atomic on its server.

Time is always the server's (`TIME`), so that no worker's clock decides. All take the same KEYS, which
share a hash tag and so a slot in a Redis Cluster: 1 lock, 2 info, 3 busy, 4 revoked, 5 channel.
"""

from __future__ import annotations


def keys(key: str) -> list[str]:
    """Return the KEYS of every script for the lock `key`."""
    return [key, f"{{{key}}}:info", f"{{{key}}}:busy", f"{{{key}}}:revoked", f"{{{key}}}:released"]


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

# ARGV: owner, ttl ms. Returns acquired | held (ours before) | busy | revoked.
ACQUIRE = f"""{_NOW}{_REVOKED}
local owner = redis.call('GET', KEYS[1])
if owner and owner ~= ARGV[1] then return 'busy' end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if owner and redis.call('HGET', KEYS[2], 'owner') == ARGV[1] then
  redis.call('PEXPIRE', KEYS[2], ARGV[2])
  return 'held'
end
redis.call('HSET', KEYS[2], 'owner', ARGV[1], 'since', now)
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return owner and 'held' or 'acquired'
"""

# ARGV: owner, ttl ms, member or '', nonce, busy ms. Returns renewed | gone | foreign | revoked.
RENEW = f"""{_NOW}{_REVOKED}
local owner = redis.call('GET', KEYS[1])
if not owner then return 'gone' end
if owner ~= ARGV[1] then return 'foreign' end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[2], ARGV[2])
if ARGV[3] ~= '' then
  redis.call('HSET', KEYS[3], ARGV[3], string.format('%d %s', now + ARGV[5], ARGV[4]))
  if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[5]) then redis.call('PEXPIRE', KEYS[3], ARGV[5]) end
end
return 'renewed'
"""

# ARGV: owner. Returns released | gone | foreign | working (a live worker of ours has a mark).
RELEASE = f"""{_NOW}
local owner = redis.call('GET', KEYS[1])
if not owner then return 'gone' end
if owner ~= ARGV[1] then return 'foreign' end
{_LIVE}
if #live > 0 then return 'working' end
redis.call('DEL', KEYS[1], KEYS[2], KEYS[3])
redis.call('PUBLISH', KEYS[5], ARGV[1])
return 'released'
"""

# ARGV: member, nonce, busy ms. Returns entered | occupied (by another nonce that is alive).
ENTER = f"""{_NOW}
local mark = redis.call('HGET', KEYS[3], ARGV[1])
if mark then
  local expiry, nonce = string.match(mark, '^(%d+) (.*)$')
  if nonce ~= ARGV[2] and tonumber(expiry) > now then return 'occupied' end
end
redis.call('HSET', KEYS[3], ARGV[1], string.format('%d %s', now + ARGV[3], ARGV[2]))
if redis.call('PTTL', KEYS[3]) < tonumber(ARGV[3]) then redis.call('PEXPIRE', KEYS[3], ARGV[3]) end
return 'entered'
"""

# ARGV: member, nonce. Returns left | foreign.
LEAVE = """
local mark = redis.call('HGET', KEYS[3], ARGV[1])
if not mark or string.match(mark, '^%d+ (.*)$') ~= ARGV[2] then return 'foreign' end
redis.call('HDEL', KEYS[3], ARGV[1])
return 'left'
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
