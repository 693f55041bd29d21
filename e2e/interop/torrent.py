"""What libtorrent says about torrents. Reads a JSON list of jobs from stdin, writes the list of answers to stdout.

{"do": "show", "torrent": FILE}
    -> {"v1", "v2", "name", "piece_length", "files": [[path, size, pieces root]], "pieces": count} or {"error"}
{"do": "create", "folder": PARENT, "name": NAME, "files": [[path, size]], "single": bool, "version": "V1|V2|Hybrid",
 "piece_length": N, "private": bool, "out": FILE}
    -> {"made": as show, "seconds": for hashing}; files keep the order given
{"do": "check", "torrent": FILE, "folder": PARENT}
    -> {"complete": bool, "done": bytes, "seconds"}: libtorrent hashed the payload on disk against the torrent
{"do": "parse", "torrent": FILE}
    -> {"seconds"} for reading it from memory, with limits that do not matter
"""

import json
import os
import sys
import time
import warnings

import libtorrent as lt

warnings.simplefilter("ignore")  # list_files has no way to choose the order of files, file_storage is only deprecated

FLAGS = {"V1": lt.create_torrent.v1_only, "V2": lt.create_torrent.v2_only, "Hybrid": 0}
CHECK_SECONDS = 120

session = None  # made by the first check, shared by all


def show(job):
    info = lt.torrent_info(job["torrent"])
    hashes = info.info_hashes()
    storage = info.files()
    prefix = info.name() + "/"
    files = []
    for index in range(storage.num_files()):
        if storage.file_flags(index) & lt.file_storage.flag_pad_file:
            continue
        path = storage.file_path(index)
        if info.num_files() > 1 or path.startswith(prefix):
            path = path.removeprefix(prefix)
        root = storage.root(index)
        files.append([path, storage.file_size(index), None if root.is_all_zeros() else str(root)])
    return {
        "v1": str(hashes.v1) if hashes.has_v1() else None,
        "v2": str(hashes.v2) if hashes.has_v2() else None,
        "name": info.name(),
        "piece_length": info.piece_length(),
        "pieces": info.num_pieces(),
        # Without a v1 side libtorrent says the piece length for all of them, and asks peers for less.
        "piece_sizes": [info.piece_size(index) for index in range(info.num_pieces())] if hashes.has_v1() else None,
        "files": files,
    }


def create(job):
    storage = lt.file_storage()
    storage.set_piece_length(job["piece_length"])
    for path, size in job["files"]:
        storage.add_file(job["name"] if job["single"] else job["name"] + "/" + path, size)
    torrent = lt.create_torrent(storage, job["piece_length"], FLAGS[job["version"]])
    torrent.set_priv(job["private"])
    start = time.monotonic()
    lt.set_piece_hashes(torrent, job["folder"])
    seconds = time.monotonic() - start
    with open(job["out"], "wb") as out:
        out.write(lt.bencode(torrent.generate()))
    return {"made": show({"torrent": job["out"]}), "seconds": seconds}


def start_session():
    return lt.session({
        "listen_interfaces": "127.0.0.1:0", "enable_dht": False, "enable_lsd": False, "enable_upnp": False,
        "enable_natpmp": False, "alert_mask": 0, "active_checking": -1, "active_limit": -1, "active_seeds": -1,
        "hashing_threads": os.cpu_count(),
    })


def check(job):
    global session
    session = session or start_session()
    params = lt.add_torrent_params()
    params.ti = lt.torrent_info(job["torrent"])
    params.trackers = []
    params.save_path = job["folder"]
    start = time.monotonic()
    handle = session.add_torrent(params)
    end = time.monotonic() + CHECK_SECONDS
    checking = (lt.torrent_status.states.checking_files, lt.torrent_status.states.checking_resume_data)
    while handle.status().state in checking and time.monotonic() < end:
        time.sleep(0.01)
    seconds = time.monotonic() - start
    status = handle.status()
    session.remove_torrent(handle)
    return {"complete": status.is_seeding, "done": status.total_done, "state": str(status.state), "seconds": seconds,
            "error": status.errc.message() if status.errc.value() else None}


def parse(job):
    with open(job["torrent"], "rb") as file:
        content = file.read()
    limits = {"max_buffer_size": 1 << 30, "max_pieces": 1 << 30, "max_decode_depth": 100, "max_decode_tokens": 1 << 30}
    start = time.monotonic()
    info = lt.torrent_info(content, limits)
    return {"seconds": time.monotonic() - start, "pieces": info.num_pieces()}


def answer(job):
    try:
        return {"show": show, "create": create, "check": check, "parse": parse}[job["do"]](job)
    except Exception as error:  # the other side judges: a refusal is an answer
        return {"error": str(error)}


# libtorrent's C++ side may print; the answers have stdout for themselves.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)
json.dump([answer(job) for job in json.load(sys.stdin)], answers)
