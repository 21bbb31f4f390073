
BprobabilitiesJP3Zd?›79£√=÷ä5Yﬂá:≠A7US†9‘‚;&È.9*à;"°T?©±%<¸Ú<SQ©6UÚ}=ëóA7MÌ:€HÜ=JÈ7@qf9