// Writes reference.json: what Hugging Face's tokenizers (npm @anush008/tokenizers 0.6.0, its Rust library built for Node)
// learns from jonah.txt, and the tokens that it makes of texts with the tokenizer.json of this package. Run once, in an empty folder:
//
//	npm install @anush008/tokenizers
//	node reference.js jonah.txt tokenizer.json > reference.json
const { Tokenizer } = require('@anush008/tokenizers')
const fs = require('fs')

const [corpus, ours] = process.argv.slice(2)
const level = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true }
const blank = Tokenizer.fromString(JSON.stringify({
  version: '1.0', truncation: null, padding: null, added_tokens: [], normalizer: null,
  pre_tokenizer: level, post_processor: null, decoder: level,
  model: { type: 'BPE', dropout: null, unk_token: null, continuing_subword_prefix: null, end_of_word_suffix: null, fuse_unk: false, byte_fallback: false, vocab: {}, merges: [] },
}))
blank.train([corpus])
blank.save('trained.json', false)
const merges = JSON.parse(fs.readFileSync('trained.json', 'utf8')).model.merges

const texts = fs.readFileSync(corpus, 'utf8').split('\n').slice(0, 30).concat([
  '', ' ', '  ', 'a  b', ' \n\n a\t\tb \u00a0c\u2003d', "it's I'LL we'll they've 'sad ''s", 'x1y22 3.14 ½²Ⅷ٣', '你好，世界！我 是', 'naïve café e\u0301',
  '👩‍👩‍👧 ok', '\r\n\u0085end', '\u3000全角', 'a\u200bb\ufeffc', '___--- "quoted"…', ' leading', 'trailing ', 'ЁЖ ẞ ﬁ', '\u0000\u0001\u007f',
])
const t = Tokenizer.fromFile(ours)
;(async () => {
  const cases = []
  for (const text of texts) {
    const e = await t.encode(text)
    cases.push({ text, ids: e.getIds(), back: await t.decode(e.getIds(), true) })
  }
  console.log(JSON.stringify({ merges, cases }))
})()
