
BprobabilitiesJPVàm=É¤*=+Òj=‘=i“}=uÌ=1G=¶>Qj>ø-=zf=woÅ=j¾{=fŽ>1ƒ¨=¯ÍF>V¬„= Í‚=ò>­U>