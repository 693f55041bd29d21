"""Peers that connect to a seed, say that they have nothing, and want nothing. The job is a JSON object in argv[1]:

{"to": ["10.0.0.5", 6881], "infohash": 40 hex digits, "count": N, "from": ["10.0", 16]}; peer i connects from 10.0.(16 + i / 250).(1 + i % 250)

Prints "connected N" when all have the seed's handshake. Ends when stdin does, and with it all connections.
"""

import json
import select
import socket
import struct
import sys
import time

job = json.loads(sys.argv[1])
net, third = job["from"]
peers = []
for index in range(job["count"]):
    peer = socket.socket()
    peer.bind((f"{net}.{third + index // 250}.{1 + index % 250}", 0))
    peer.connect(tuple(job["to"]))
    name = b"-XX0001-%012d" % index
    peer.sendall(b"\x13BitTorrent protocol" + bytes(8) + bytes.fromhex(job["infohash"]) + name)
    peers.append(peer)
greeted, poll, by_fd, last = set(), select.poll(), {}, time.monotonic()
for peer in peers:
    poll.register(peer, select.POLLIN)
    by_fd[peer.fileno()] = peer
poll.register(sys.stdin, select.POLLIN)
said = False
while True:
    for fd, _ in poll.poll(1000):
        if fd == sys.stdin.fileno():
            sys.exit(0)
        data = by_fd[fd].recv(1 << 16)
        if not data:
            print("failed the seed has closed a connection", flush=True)
            sys.exit(1)
        greeted.add(fd)
    if len(greeted) == len(peers) and not said:
        said = True
        print("connected", len(peers), flush=True)
    if time.monotonic() - last > 60:
        last = time.monotonic()
        for peer in peers:
            peer.sendall(struct.pack(">I", 0))
