package bake
import ("testing";"context";"os";"fmt")
func TestTry(t *testing.T) {
	r, err := Tiny(context.Background(), Options{OutDir: "/tmp/bt/"+os.Getenv("N"), WorkDir: "/tmp/bt/work"+os.Getenv("N"), Stage: func(s string){fmt.Println(s)}})
	if err != nil { t.Fatal(err) }
	fmt.Println(r.Dir, r.Manifest.TotalSize, r.Manifest.SHA256, r.Manifest.BootFiles)
}
