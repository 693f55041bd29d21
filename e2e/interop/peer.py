"""One libtorrent peer with one torrent. The job is a JSON object in argv[1]:

{"listen": "127.0.0.5", "torrent": FILE or magnet link, "folder": PARENT, "peers": [["127.0.0.1", 6881]], "upload_limit": bytes/s or 0,
 "trackers": [URL], "wait": bool}; the last three may be left out. Each tracker is a tier of its own (BEP 12). With "wait" it says
"ready", and begins when a line comes in.

Prints lines: "listening PORT" when peers can connect, "complete" when it has everything, "failed TEXT" when it cannot go on.
Ends when stdin does; prints "totals {...}" before.
"""

import json
import select
import sys
import time

import libtorrent as lt

job = json.loads(sys.argv[1])
listen = job["listen"]
session = lt.session({
    "listen_interfaces": (f"[{listen}]" if ":" in listen else listen) + ":0", "outgoing_interfaces": listen,
    "enable_dht": False, "enable_lsd": False, "enable_upnp": False, "enable_natpmp": False,
    "enable_incoming_utp": False, "enable_outgoing_utp": False, "allow_multiple_connections_per_ip": True,
    "in_enc_policy": 2, "out_enc_policy": 2, "unchoke_slots_limit": -1, "upload_rate_limit": job.get("upload_limit", 0),
    "rate_limit_ip_overhead": False,
    "alert_mask": lt.alert.category_t.error_notification | lt.alert.category_t.peer_notification,
})
# Peers on loopback count as local and would escape the limit.
session.set_peer_class_filter(lt.ip_filter())
if job.get("wait"):
    print("ready", flush=True)
    sys.stdin.readline()
if job["torrent"].startswith("magnet:"):
    params = lt.parse_magnet_uri(job["torrent"])
else:
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(job["torrent"])
    params.trackers = job.get("trackers", [])
    params.tracker_tiers = list(range(len(params.trackers)))
params.save_path = job["folder"]
handle = session.add_torrent(params)


def say(*words):
    print(*words, flush=True)


port = session.listen_port()
say("listening", port)
for ip, peer_port in job["peers"]:
    handle.connect_peer((ip, peer_port))
complete = False
while not select.select([sys.stdin], [], [], 0.05)[0]:
    status = handle.status()
    for alert in session.pop_alerts():
        print(alert.message(), file=sys.stderr, flush=True)
    if status.errc.value():
        say("failed", status.errc.message())
        break
    if status.is_seeding and not complete:
        complete = True
        say("complete")
status = handle.status()
say("totals", json.dumps({
    "downloaded": status.total_payload_download, "uploaded": status.total_payload_upload,
    "failed": status.total_failed_bytes, "redundant": status.total_redundant_bytes,
}))
