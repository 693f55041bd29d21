// Announces to the tracker argv[1] as the peer 6886 of the torrent argv[2], scrapes it, and leaves; prints what it is told as JSON.
// An ES module, run with the folder of node_modules as the working directory.
import { Buffer } from 'node:buffer'
import Client from 'bittorrent-tracker'

const [announce, infoHash] = process.argv.slice(1)
const told = { peers: [] }
const client = new Client({ announce, infoHash, peerId: Buffer.from('-JS0001-abcdefghijkl'), port: 6886, wrtc: false })

function fail (error) {
  console.error(String(error))
  process.exit(1)
}

client.on('error', fail)
client.on('warning', fail)
client.on('peer', address => told.peers.push(address))
client.once('update', ({ complete, incomplete }) => {
  told.announced = { complete, incomplete }
  client.scrape()
})
client.once('scrape', ({ complete, incomplete, downloaded }) => {
  told.scraped = { complete, incomplete, downloaded }
  client.once('update', () => {
    console.log(JSON.stringify(told))
    process.exit(0)
  })
  client.stop()
})
client.start({ left: 5 })
