"""One libtorrent session that seeds many torrents. The job is a JSON object in argv[1]:

{"listen": "10.0.0.5", "torrents": FOLDER of .torrents, "folder": where all their files are, "connections": at most}

Prints "listening PORT" when it seeds all of them. Ends when stdin does.
"""

import json
import os
import sys
import time

import libtorrent as lt

job = json.loads(sys.argv[1])
session = lt.session({
    "listen_interfaces": job["listen"] + ":0", "outgoing_interfaces": job["listen"],
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False, "allow_multiple_connections_per_ip": True,
    # All connect at once; with the default of 5 it refuses most of them.
    "listen_queue_size": job["connections"],
    "connections_limit": 4 * job["connections"], "active_seeds": -1, "active_limit": -1, "active_tracker_limit": -1,
})
handles = []
for name in sorted(os.listdir(job["torrents"])):
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(os.path.join(job["torrents"], name))
    params.save_path = job["folder"]
    params.flags &= ~lt.torrent_flags.auto_managed & ~lt.torrent_flags.paused
    params.flags |= lt.torrent_flags.seed_mode
    handles.append(session.add_torrent(params))
while not all(handle.status().is_seeding for handle in handles):
    time.sleep(0.2)
print("listening", session.listen_port(), flush=True)
sys.stdin.read()
