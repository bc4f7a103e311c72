package exp
import ("testing";"time";"fmt";"sort";"runtime";"math/rand/v2";"flag";"os";"strings"
"attnbench/internal/kernel"; "attnbench/attn"; _ "attnbench/attn/all")
var (n=flag.Int("n",512,"");dim=flag.Int("d",64,"");heads=flag.Int("h",8,"");causal=flag.Bool("c",true,"");dur=flag.Duration("t",3*time.Second,"");bwd=flag.Bool("bwd",false,"");mech=flag.String("mech","full","");cpus=flag.Int("p",1,"");win=flag.Int("w",0,"");flat=flag.Bool("flat",false,"heads contiguous"))
func loop(d time.Duration) float64 { w:=0.0; s:=time.Now(); for time.Since(s)<d { w+=float64(kernel.FMALoop(4096)) }; return w/time.Since(s).Seconds()/1e9 }
func q(x []float64) string { sort.Float64s(x); n:=len(x); return fmt.Sprintf("p10 %.3f p50 %.3f p75 %.3f p90 %.3f max %.3f (%d)",x[n/10],x[n/2],x[n*3/4],x[n*9/10],x[n-1],n) }
func view(r *rand.Rand) attn.View {
 N,H,D:=*n,*heads,*dim
 x:=make([]float32,N*H*D); for i:=range x { x[i]=float32(r.NormFloat64()) }
 if *flat { return attn.View{Data:x,BatchStride:N*H*D,TimeStride:D,HeadStride:N*D,Batch:1,Time:N,Heads:H,Dim:D} }
 return attn.View{Data:x,BatchStride:N*H*D,TimeStride:H*D,HeadStride:D,Batch:1,Time:N,Heads:H,Dim:D}
}
func TestX(t *testing.T){
 runtime.GOMAXPROCS(*cpus)
 r:=rand.New(rand.NewPCG(1,2))
 m,err:=attn.New(*mech); if err!=nil { t.Fatal(err) }
 mask:=attn.Bidirectional; if *causal { mask=attn.Causal }
 sh:=attn.Shape{Batch:1,Heads:*heads,KVHeads:*heads,QueryLen:*n,KeyLen:*n,KeyDim:*dim,ValueDim:*dim,Mask:mask}
 c:=&attn.Call{Shape:sh,Q:view(r),K:view(r),V:view(r),Out:view(r)}
 ws:=attn.NewWorkspace()
 fl:=4*float64(*n)*float64(*n)*float64(*dim**heads); if *causal {fl/=2}; if *win>0 { fl=4*float64(*n)*float64(*win)*float64(*dim**heads) }
 var g attn.Grads
 sv:=attn.NewSaved(new(attn.Arena))
 f:=func(){ m.Forward(ws,c) }
 if *bwd { c.Saved=sv; m.Forward(ws,c); g=attn.Grads{Out:view(r),Q:view(r),K:view(r),V:view(r)}; fl*=2.5; f=func(){ m.(attn.Differentiable).Backward(ws,c,&g)} }
 f()
 var x,p []float64
 for s:=time.Now(); time.Since(s)<*dur || len(x)<7; {
  a:=loop(2*time.Millisecond); st:=time.Now(); f(); e:=time.Since(st).Seconds(); b:=loop(2*time.Millisecond)
  x=append(x,fl/e/1e9/((a+b)/2)/float64(*cpus)); p=append(p,(a+b)/2)
 }
 fmt.Fprintln(os.Stderr,strings.TrimSpace(*mech),"n",*n,"d",*dim,"h",*heads,"c",*causal,"bwd",*bwd,q(x), "peak",q(p)[10:20])
}
