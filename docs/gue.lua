-- SPDX-License-Identifier: BSD-2-Clause OR GPL-2.0-only
-- GUE for Wireshark and tshark, which have no dissector of their own for it. Both variants, at the ports
-- of Katran (6080) and GLB (19523). For another port: Analyze, Decode As, or `-d udp.port==PORT,gue`.
--
--   tshark -X lua_script:docs/gue.lua -r out.pcapng
--   cp docs/gue.lua ~/.local/lib/wireshark/plugins/        # for each start of Wireshark

local gue = Proto("gue", "Generic UDP Encapsulation")
local variant = ProtoField.uint8("gue.variant", "Variant", base.DEC, nil, 0xc0)
local control = ProtoField.bool("gue.control", "Control message", 8, nil, 0x20)
local words = ProtoField.uint8("gue.words", "Words behind the header", base.DEC, nil, 0x1f)
local protocol = ProtoField.uint8("gue.protocol", "Protocol")
local flags = ProtoField.uint16("gue.flags", "Flags", base.HEX)
local kind = ProtoField.uint16("gue.private.type", "Type of the private data")
local next_hop = ProtoField.uint8("gue.private.next_hop", "Next hop")
local hops = ProtoField.uint8("gue.private.hops", "Hops")
local hop4 = ProtoField.ipv4("gue.private.hop4", "Hop")
gue.fields = { variant, control, words, protocol, flags, kind, next_hop, hops, hop4 }

local by_protocol = DissectorTable.get("ip.proto")
local ip = Dissector.get("ip")

function gue.dissector(buffer, packet, tree)
  if buffer:len() < 1 then return 0 end
  local first = buffer(0, 1):uint()
  if first >= 0x40 then
    -- Variant 1 has no header. What follows calls itself the protocol of the packet.
    tree:add(gue, buffer(0, 1)):add(variant, buffer(0, 1))
    return ip:call(buffer, packet, tree)
  end
  local length = 4 + (first % 32) * 4
  if buffer:len() < length then return 0 end
  packet.cols.protocol = "GUE"
  local header = tree:add(gue, buffer(0, length))
  header:add(variant, buffer(0, 1))
  header:add(control, buffer(0, 1))
  header:add(words, buffer(0, 1))
  header:add(protocol, buffer(1, 1))
  header:add(flags, buffer(2, 2))
  if length >= 8 and buffer(2, 2):uint() == 0 then
    header:add(kind, buffer(4, 2))
    header:add(next_hop, buffer(6, 1))
    header:add(hops, buffer(7, 1))
    for at = 8, length - 4, 4 do
      if buffer(4, 2):uint() == 0 then header:add(hop4, buffer(at, 4)) end
    end
  end
  if first >= 0x20 then return length end
  return length + by_protocol:try(buffer(1, 1):uint(), buffer(length):tvb(), packet, tree)
end

local udp = DissectorTable.get("udp.port")
udp:add(6080, gue)
udp:add(19523, gue)
