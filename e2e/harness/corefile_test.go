package harness

import "testing"

func TestBatched(t *testing.T) {
	for name, tc := range map[string]struct{ text, want string }{
		"a block":         {".:53 {\n\terrors\n}\n", ".:53 {\n\tudpbatch\n\terrors\n}\n"},
		"a variable":      {".:{$DNS} {\n\terrors\n}\n", ".:{$DNS} {\n\tudpbatch\n\terrors\n}\n"},
		"several names":   {"a.example b.example:53 {\n}\n", "a.example b.example:53 {\n\tudpbatch\n}\n"},
		"an inner block":  {". {\n\tkubezone {\n\t}\n}\n", ". {\n\tudpbatch\n\tkubezone {\n\t}\n}\n"},
		"not indented":    {". {\ncache {\ndisable success\n}\nlog\n}\na. {\n}\n", ". {\n\tudpbatch\ncache {\ndisable success\n}\nlog\n}\na. {\n\tudpbatch\n}\n"},
		"a snippet":       {"(s) {\n\terrors\n}\n", "(s) {\n\terrors\n}\n"},
		"another scheme":  {"tls://. {\n\terrors\n}\n", "tls://. {\n\terrors\n}\n"},
		"has it":          {". {\n\tudpbatch 2\n}\n", ". {\n\tudpbatch 2\n}\n"},
		"a comment first": {"# {\n.:1053 {\n}\n", "# {\n.:1053 {\n\tudpbatch\n}\n"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := batched(tc.text); got != tc.want {
				t.Errorf("got\n%swant\n%s", got, tc.want)
			}
		})
	}
}
