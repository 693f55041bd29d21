"""Makes, or reads, a .torrent with torf. argv[1] is a JSON object: {"do": "create", "path": PATH, "out": FILE} or
{"do": "show", "torrent": FILE}. Prints the infohash as JSON."""

import json
import sys

import torf

job = json.loads(sys.argv[1])
if job["do"] == "create":
    torrent = torf.Torrent(path=job["path"], trackers=[["http://a/x", "http://b/x"], ["http://c/x"]], private=True,
                           source="LAN", comment="a comment", piece_size=65536)
    torrent.generate()
    torrent.write(job["out"])
else:
    torrent = torf.Torrent.read(job["torrent"])
print(json.dumps({"infohash": torrent.infohash}))
