package bundle

import "testing"

// TestColorNames samples the table of names: CSS has 148.
func TestColorNames(t *testing.T) {
	if len(colorNames) != 148 {
		t.Errorf("there are %d names, want 148", len(colorNames))
	}
	for name, want := range map[string]string{
		"aliceblue": "#f0f8ff", "black": "#000000", "darkslategrey": "#2f4f4f", "HotPink": "#ff69b4",
		"rebeccapurple": "#663399", "white": "#ffffff", "yellowgreen": "#9acd32",
	} {
		if c, err := readColor(name); err != nil || hexColor(c) != want {
			t.Errorf("%s is %s (%v), want %s", name, hexColor(c), err, want)
		}
	}
	for _, name := range []string{"", "alice blue", "isofs"} {
		if c, err := readColor(name); err == nil {
			t.Errorf("%q is %s, want an error", name, hexColor(c))
		}
	}
}
