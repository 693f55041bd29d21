// Loads the .torrent argv[2] with webtorrent over the payload below argv[3]; prints infohash and progress as JSON.
const fs = require('fs')
const WebTorrent = require('webtorrent')

const [torrent, folder] = process.argv.slice(2)
const client = new WebTorrent({ dht: false, lsd: false, utp: false, tracker: false })
client.on('error', error => {
  console.error(String(error))
  process.exit(1)
})
client.add(fs.readFileSync(torrent), { path: folder }, loaded => {
  console.log(JSON.stringify({ infohash: loaded.infoHash, progress: loaded.progress }))
  process.exit(0)
})
