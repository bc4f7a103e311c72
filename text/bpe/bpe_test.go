package bpe

import (
	"bytes"
	"encoding/json"
	"flag"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

var update = flag.Bool("update", false, "rewrite golden files")

// jonah yields the lines of a public domain text in English and Spanish: World English Bible and Reina-Valera 1909, Jonah.
func jonah(t testing.TB) iter.Seq[string] {
	t.Helper()
	text, err := os.ReadFile("testdata/jonah.txt")
	if err != nil {
		t.Fatal(err)
	}
	return slices.Values(strings.SplitAfter(string(text), "\n"))
}

func trained(t testing.TB) *Tokenizer {
	t.Helper()
	k, err := Train(jonah(t), 1000, "<pad>", "<s>", "</s>")
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func written(t testing.TB, k *Tokenizer) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := k.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestFileGolden: training is deterministic, and so is the file; reading it gives the same tokeniser.
func TestFileGolden(t *testing.T) {
	got := written(t, trained(t))
	if *update {
		if err := os.WriteFile("testdata/tokenizer.json", got, 0o666); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("the trained tokeniser differs from testdata/tokenizer.json")
	}
	back, err := Read(bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(written(t, back), want) {
		t.Error("read and written again the file differs")
	}
}

// TestReference: merges as Hugging Face's trainer learns them, and tokens as its encoder makes them (testdata/reference.js).
func TestReference(t *testing.T) {
	data, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref struct {
		Merges [][2]string
		Cases  []struct {
			Text, Back string
			IDs        []int32
		}
	}
	if err := json.Unmarshal(data, &ref); err != nil {
		t.Fatal(err)
	}
	k := trained(t)
	if len(k.merges) != 1000-3-256 || len(ref.Cases) < 40 {
		t.Fatalf("%d merges, %d cases: want 741 and more than 40", len(k.merges), len(ref.Cases))
	}
	for i, p := range k.merges {
		if got := [2]string{k.spelling(p.left), k.spelling(p.right)}; got != ref.Merges[i] {
			t.Fatalf("merge %d is %q: want %q", i, got, ref.Merges[i])
		}
	}
	for _, c := range ref.Cases {
		got := k.Encode(c.Text)
		if !slices.Equal(got, c.IDs) {
			t.Errorf("%q: %d: want %d", c.Text, got, c.IDs)
		}
		if back := k.Decode(got); back != c.Back {
			t.Errorf("%q came back as %q", c.Text, back)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	k := trained(t)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.String(),
			rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
			rapid.StringMatching(`[a-e' \n<>/pds]{0,60}`),
		).Draw(t, "text")
		ids := k.Encode(text)
		if got := k.Decode(ids); got != text {
			t.Fatalf("%q came back as %q", text, got)
		}
		for _, id := range ids {
			if k.IsSpecial(id) {
				t.Fatalf("%q holds the special token %d", text, id)
			}
		}
		if joined := strings.Join(slices.Collect(words(text)), ""); joined != text {
			t.Fatalf("words of %q join to %q", text, joined)
		}
	})
}

// TestMergeOrder: the rank decides, not the place: with b+c before a+b, abc is a, bc; the naive loop agrees on any word.
func TestMergeOrder(t *testing.T) {
	k, err := Train(slices.Values([]string{"bc bc bc ab ab aab aab"}), 300, "<pad>")
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[abc]{0,40}`).Draw(t, "word")
		var ids []int32
		for i := range len(word) {
			ids = append(ids, k.bytes[word[i]])
		}
		for {
			best, at := rule{rank: 1 << 30}, -1
			for i := 1; i < len(ids); i++ {
				if r, ok := k.rules[pair{ids[i-1], ids[i]}]; ok && r.rank < best.rank {
					best, at = r, i
				}
			}
			if at < 0 {
				break
			}
			ids[at-1] = best.token
			ids = slices.Delete(ids, at, at+1)
		}
		if got := k.Encode(word); !slices.Equal(got, ids) {
			t.Fatalf("%q: %d: want %d", word, got, ids)
		}
	})
}

func TestTrainRefuses(t *testing.T) {
	none := maps.Keys(map[string]bool{})
	for _, c := range []struct {
		size    int
		special []string
		want    string
	}{
		{256, []string{"<pad>"}, "vocabulary of 256 tokens: want at least 257"},
		{300, []string{"<s>", "<s>"}, `special token "<s>": want distinct`},
		{300, []string{"<\xff>"}, `want distinct names of at least two letters, in UTF-8`},
		{300, []string{""}, `special token "": want distinct`},
		{-1, nil, "vocabulary of -1 tokens: want at least 256"},
		{300, []string{"a"}, `special token "a": want distinct names of at least two letters`},
	} {
		if _, err := Train(none, c.size, c.special...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("size %d, special %q: error %v: want %q", c.size, c.special, err, c.want)
		}
	}
	k, err := Train(slices.Values([]string{"<<<< <<<<"}), 1000, "<<")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range k.Encode("<<<<") {
		if k.IsSpecial(id) {
			t.Error("text that spells a special token became it")
		}
	}
	if _, err := Read(bytes.NewReader(written(t, k))); err != nil {
		t.Error(err)
	}
}

// TestReadRefuses: one fault each, in a file that is good otherwise.
func TestReadRefuses(t *testing.T) {
	good, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ old, new, want string }{
		{`"normalizer": null`, `"normalizer": {"type": "NFC"}`, "normalizer: want null"},
		{`"truncation": null`, `"truncation": {}`, "truncation: want null"},
		{`"pre_tokenizer": {"type": "ByteLevel"`, `"pre_tokenizer": {"type": "Whitespace"`, "pre_tokenizer: want type ByteLevel"},
		{`"decoder": {"type": "ByteLevel"`, `"decoder": {"type": "BPEDecoder"`, "decoder: want type ByteLevel"},
		{`"post_processor": null`, `"post_processor": {"type": "TemplateProcessing"}`, "post_processor: want type ByteLevel"},
		{`"add_prefix_space": false`, `"add_prefix_space": true`, "add_prefix_space: want false"},
		{`"type": "BPE"`, `"type": "Unigram"`, "model: want type BPE"},
		{`"dropout": null`, `"dropout": 0.1`, "dropout 0.1: want none"},
		{`"unk_token": null`, `"unk_token": "<unk>"`, `unk_token "<unk>": want none`},
		{`"end_of_word_suffix": null`, `"end_of_word_suffix": "</w>"`, `end_of_word_suffix "</w>": want none`},
		{`"byte_fallback": false`, `"byte_fallback": true`, "byte_fallback: want"},
		{`"ignore_merges": false`, `"ignore_merges": true`, "ignore_merges: want false"},
		{`"special": true`, `"special": false`, `added token "<pad>": not special`},
		{`{"id": 1,`, `{"id": 2,`, "both have number 2"},
		{`{"id": 1,`, `{"id": -1,`, `token "<s>": number 1 in the vocabulary, -1 among`},
		{`"content": "<s>"`, `"content": "<pad>"`, `added token "<pad>": want distinct`},
		{`"!": 3,`, `"!": 4,`, "both have number 4"},
		{`"!": 3,`, `"!": 5000,`, `token "!": number 5000 of 1000 tokens: want 0 to 999`},
		{`"!": 3,`, `"!!": 3,`, "byte 0x21 is no token"},
		{`"!": 3,`, `"你": 3,`, `token "你": want the byte-level spelling`},
		{`"!": 3,`, `"": 3,`, `token "": want the byte-level spelling`},
		{`["Ġ", "t"]`, `["Ġ", "t", "h"]`, "want two tokens"},
		{`["Ġ", "t"]`, `7`, "merge 0: 7: want two tokens"},
		{`["Ġ", "t"]`, `["Ġ", "zz"]`, `merge 0: "zz": no token`},
		{`["Ġ", "t"]`, `["Ġ", "<pad>"]`, `merge 0: "<pad>": no token`},
		{`["Ġ", "t"]`, `"Ġ ~"`, "their sum is no token"},
		{`["Ġ", "a"]`, `["Ġ", "t"]`, "a second time"},
		{`"model": {`, `"model": [`, "tokenizer: "},
	} {
		text := strings.Replace(string(good), c.old, c.new, 1)
		if text == string(good) {
			t.Errorf("%s: not in the file", c.old)
			continue
		}
		if _, err := Read(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s for %s: error %v: want %q", c.new, c.old, err, c.want)
		}
	}
	old := strings.NewReplacer(`["Ġ", "t"]`, `"Ġ t"`).Replace(string(good))
	if _, err := Read(strings.NewReader(old)); err != nil {
		t.Errorf("a merge as one string: %v", err)
	}
}

func FuzzRead(f *testing.F) {
	good, err := os.ReadFile("testdata/tokenizer.json")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"model": {"type": "BPE", "vocab": {"a": 0}}, "pre_tokenizer": {"type": "ByteLevel"}, "decoder": {"type": "ByteLevel"}}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := Read(bytes.NewReader(data))
		if err != nil {
			if !strings.HasPrefix(err.Error(), "tokenizer: ") {
				t.Errorf("error %v: want it to say what it is about", err)
			}
			return
		}
		const text = "In the beginning, God's \xff 你"
		if got := k.Decode(k.Encode(text)); got != text {
			t.Errorf("%q came back as %q", text, got)
		}
		if _, err := Read(bytes.NewReader(written(t, k))); err != nil {
			t.Errorf("written again: %v", err)
		}
	})
}

func BenchmarkEncode(b *testing.B) {
	k := trained(b)
	text := strings.Join(slices.Collect(jonah(b)), "")
	b.SetBytes(int64(len(text)))
	for b.Loop() {
		k.Encode(text)
	}
}
